import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ROOT, tvixStore } from '../helpers/cli.ts';
import { GatedMount } from '../helpers/gated-mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';
import { TestVirtiofs } from '../helpers/virtiofs.ts';

const QEMU_GUEST = join(ROOT, 'scripts/qemu-guest');
const BUSYBOX = join(ROOT, 'node_modules/.cache/qemu-guest/busybox');
const LARGE = Buffer.from(randomBytes(64 << 20, 64));

const installed = spawnSync(QEMU_GUEST, { encoding: 'utf8', timeout: 300_000 });
if (installed.status !== 0) console.warn(`skipped: ${installed.stderr.trim() || 'no virtual machine'}`);

/** A run takes seconds, but not beside others on a busy machine. */
const LONGEST_MS = 180_000;

const machines: Machine[] = [];

afterAll(() => {
  for (const machine of machines) machine.end();
});

/** A virtual machine that runs a script. */
class Machine {
  readonly #child;
  readonly #closed: Promise<unknown>;
  #console = '';

  constructor(socket: string, script: string, args: readonly string[], environment: Record<string, string>) {
    const path = join(tempDir(), 'script');
    writeFileSync(path, script);
    this.#child = spawn(QEMU_GUEST, [path, socket, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...environment },
    });
    this.#closed = once(this.#child, 'close');
    for (const output of [this.#child.stdout, this.#child.stderr]) {
      output.setEncoding('utf8').on('data', (part: string) => {
        this.#console += part.replaceAll('\r', '');
      });
    }
    machines.push(this);
  }

  get console(): string {
    return this.#console;
  }

  /** Resolves when the guest has said this so often. */
  async says(text: string, times = 1): Promise<void> {
    while (this.#console.split(text).length <= times) {
      if (this.#child.exitCode !== null) throw new Error(`the guest has ended: ${this.#console}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Resolves when it has switched itself off. */
  async off(): Promise<void> {
    await this.#closed;
    expect(this.#child.exitCode, this.#console).toBe(0);
  }

  end(): void {
    this.#child.kill('SIGTERM');
  }
}

describe.skipIf(installed.status !== 0)('a real guest', { timeout: LONGEST_MS }, () => {
  test('lists, reads, runs a program, waits for a slow store, unmounts and mounts again', async () => {
    const tree = join(tempDir(), 'tree');
    const many = Array.from({ length: 1000 }, (_, i) => [`f${i}`, file(`contents of ${i}`)]);
    writeTree(
      tree,
      directory({
        large: file(LARGE),
        busybox: file(readFileSync(BUSYBOX), true),
        many: directory(Object.fromEntries(many)),
      }),
    );
    const socket = join(tempDir(), 'socket');
    const store = await GatedMount.start({ trees: [tree], socket, listRoot: true });
    await store.gate('blobs', 'held');
    const name = basename(store.roots[0]!);
    const machine = new Machine(
      socket,
      `mount -t virtiofs -o ro store /mnt && echo MOUNTED
      ls /mnt
      cd /mnt/${name}
      echo LISTED $(ls -l many | grep -c -e '-r--r--r--')
      echo LAZY $(cat many/f7)
      echo SUM $(sha256sum large)
      echo 3 >/proc/sys/vm/drop_caches
      echo SUM AGAIN $(sha256sum large)
      ./busybox echo EXECUTED
      mount -o remount,rw /mnt
      touch new 2>&1
      cd /
      umount /mnt && echo UNMOUNTED
      mount -t virtiofs -o ro store /mnt
      echo MOUNTED AGAIN $(cat /mnt/${name}/many/f8)
      umount /mnt`,
      ['-no-reboot'],
      // More than 4 GiB, so that memory comes in two regions, one of them beyond what a buffer can hold.
      { MEMORY: '6G', QUEUES: '2' },
    );
    await machine.says('LISTED 1000');
    await expect.poll(() => store.waiting('blobs'), { timeout: LONGEST_MS }).toBe(1);
    await store.gate('blobs', 'open');
    await machine.off();
    const sum = createHash('sha256').update(LARGE).digest('hex');
    const said = machine.console;
    expect(said).toContain(`MOUNTED\n${name}\n`);
    expect(said).toContain('LAZY contents of 7');
    expect(said).toContain(`SUM ${sum}`);
    expect(said).toContain(`SUM AGAIN ${sum}`);
    expect(said).toContain('EXECUTED');
    expect(said).toContain('touch: new: Read-only file system');
    expect(said).toContain('UNMOUNTED');
    expect(said).toContain('MOUNTED AGAIN contents of 8');
    await store.stop();
  });

  test('has an overlay over it that does what one over files of its own does', async () => {
    const tree = join(tempDir(), 'tree');
    const same = () => file('the same');
    const inner = directory({ c: same(), d: same(), none: file('') });
    writeTree(tree, directory({ a: same(), b: same(), empty: file(''), none: file(''), sub: inner }));
    const store = `local://${join(tempDir(), 'store')}`;
    const { stdout } = await tvixStore(['import', '--store', store, tree]);
    const server = await TestVirtiofs.start(['--store', store]);
    const machine = new Machine(
      server.socket,
      `mount -t tmpfs tmpfs /tmp
      mount -t virtiofs -o ro store /mnt
      cp -a /mnt/${stdout.trim().slice('/nix/store/'.length)} /tmp/plain
      change() {
        echo more >>a && chmod 700 empty && mv b sub/b && ln sub/d link && rm sub/c && echo new >sub/new
        mv sub moved && echo more >>link && truncate -s 3 moved/b
      }
      show() {
        find . | sort | while read -r name; do
          echo "$1: $(stat -c '%n %F %a' "$name") $([ -d "$name" ] || stat -c '%s %h' "$name") $([ -d "$name" ] || cat "$name")"
        done
        echo "$1: files $(find . -type f -exec stat -c %i {} + | sort -u | wc -l)"
      }
      for kind in mnt/${stdout.trim().slice('/nix/store/'.length)} tmp/plain; do
        for options in index=off index=on,xino=on metacopy=on,redirect_dir=on; do
          mkdir -p /tmp/changes /tmp/work /tmp/top
          layers=lowerdir=/$kind,upperdir=/tmp/changes,workdir=/tmp/work,$options
          mount -t overlay -o $layers overlay /tmp/top
          cd /tmp/top && change
          show "${'$'}{kind%%/*} $options before" | grep -v files
          cd / && umount /tmp/top && mount -t overlay -o $layers overlay /tmp/top && cd /tmp/top
          show "${'$'}{kind%%/*} $options after"
          cd / && umount /tmp/top && rm -rf /tmp/changes /tmp/work
        done
      done
      umount /mnt`,
      ['-no-reboot'],
      {},
    );
    await machine.off();
    const lines = (kind: string) =>
      machine.console.split('\n').flatMap((line) => (line.startsWith(kind) ? [line.slice(kind.length)] : []));
    expect(lines('mnt ')).toEqual(lines('tmp '));
    // Three overlays, each shown twice: the directories, the files, and how many of them there are once.
    expect(lines('mnt ').length).toBe(3 * (2 * 10 + 1));
    await server.stop();
  });

  test('restarts, and the next one is served on the same socket', async () => {
    const tree = join(tempDir(), 'tree');
    writeTree(tree, file('contents'));
    const store = `local://${join(tempDir(), 'store')}`;
    const name = (await tvixStore(['import', '--store', store, tree])).stdout
      .trim()
      .slice('/nix/store/'.length);
    const server = await TestVirtiofs.start(['--store', store]);
    const script = `mount -t virtiofs -o ro store /mnt
      echo FOUND $(cat /mnt/${name})`;
    const first = new Machine(server.socket, `${script}\nreboot -f`, [], {});
    await first.says('FOUND contents', 3);
    first.end();
    const second = new Machine(server.socket, script, ['-no-reboot'], {});
    await second.off();
    expect(second.console).toContain('FOUND contents');
    expect((await server.stop()).status).toBe(0);
  });
});
