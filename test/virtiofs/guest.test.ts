import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { tvixStore } from '../helpers/cli.ts';
import { GatedMount } from '../helpers/gated-mount.ts';
import { BUSYBOX, HAS_GUESTS, LONGEST_MS, Machine } from '../helpers/machine.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';
import { TestVirtiofs } from '../helpers/virtiofs.ts';

const LARGE = Buffer.from(randomBytes(64 << 20, 64));

describe.runIf(HAS_GUESTS)('a real guest', { timeout: LONGEST_MS }, () => {
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
