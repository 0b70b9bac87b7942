import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFailed, test } from 'vitest';
import { CLI, printedBy, tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { randomBytes, randomNumbers, SEED } from '../helpers/random.ts';
import { freeOf, smallDisk } from '../helpers/small-disk.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree, writeTree } from '../helpers/trees.ts';

/** `scripts/soak` makes more. */
const RUNS = Number(process.env.DISK_RUNS ?? 25);
const DISK_MIB = 64;
const MIB = 1 << 20;

const random = randomNumbers(SEED);
const below = (limit: number) => Math.floor(random() * limit);

const disk = smallDisk(DISK_MIB)!;
const without = disk ? '' : ' (skipped: only root can mount a small file system)';

test.skipIf(!disk)(
  `a disk that fills at any moment, ${RUNS} times: no crash, and everything works again${without}`,
  async () => {
    const done: Record<string, number> = {};
    onTestFailed(() => console.error(`to repeat this: TEST_SEED=${SEED}`, done));
    const dir = tempDir();
    const store = ['--store', `local://${disk}/store`];
    const filler = join(disk, 'filler');
    const at = (name: string) => join(dir, name);
    const good = async (...args: string[]) => {
      const { status, stdout, stderr } = await tvixStore(args);
      expect(status, JSON.stringify({ args, stdout, stderr })).toBe(0);
      return stdout.trim();
    };
    mkdirSync(at('trees'));
    writeTree(
      at('kept'),
      directory({ tree: generateTree(60, 1), large: file(randomBytes(2 * MIB, 'kept')) }),
    );
    const kept = await good('import', ...store, at('kept'));
    await good('root', 'add', ...store, 'kept', kept);
    await good('key', 'generate', '--file', at('key'), 'test-1');
    await good('import', '--store', `local://${dir}/other`, at('kept'));
    let daemon = await startDaemon(store[1]!);

    let serial = 0;
    const newTree = () => {
      const path = at(`trees/${serial++}`);
      writeTree(
        path,
        directory({ tree: generateTree(40, serial), large: file(randomBytes(3 * MIB, `${serial}`)) }),
      );
      return path;
    };
    const commands: Record<string, () => string[]> = {
      import: () => ['import', ...store, newTree()],
      upload: () => ['import', '--store', daemon.url, newTree()],
      copy: () => ['copy', '--from', `local://${dir}/other`, '--to', store[1]!, '--all'],
      backup: () => ['backup', ...store, '--to', join(disk, 'backup')],
      restore: () => ['restore', ...store, '--from', at('other')],
      sign: () => ['sign', ...store, '--key-file', at('key'), '--all'],
      root: () => ['root', 'add', ...store, `root-${serial++}`, kept],
      gc: () => ['gc', ...store, '--older-than', '0'],
      fsck: () => ['fsck', ...store, '--repair'],
      part: () => ['fsck', ...store, '--budget', '1s'],
      realise: () => {
        mkdirSync(join(disk, 'out'), { recursive: true });
        return ['realise', ...store, kept, join(disk, 'out')];
      },
      static: () => ['copy', ...store, '--to', `nix+file://${disk}/static`, kept],
      bucket: () => ['import', '--store', `objectstore+file://${disk}/bucket`, newTree()],
    };
    /** Takes all of the disk but for so many bytes. */
    const fill = (left: number) => {
      const bytes = freeOf(disk) - left;
      try {
        if (bytes > 0) writeFileSync(filler, Buffer.alloc(bytes), { flag: 'a' });
      } catch (error) {
        // The other one has been faster: so it is full.
        expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC');
      }
    };

    for (let i = 0; i < RUNS; i++) {
      const [name, command] = Object.entries(commands)[below(Object.keys(commands).length)]!;
      const args = command();
      // Before it begins, or while it works.
      const isLate = below(2) === 0;
      if (!isLate) fill(below(4 * MIB));
      const child = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
      const output = printedBy(child);
      const closed = once(child, 'close');
      if (isLate) {
        await Promise.race([closed, delay(below(600))]);
        fill(below(MIB));
      }
      const [status, signal] = await closed;
      const { stderr } = output;
      const said = JSON.stringify({ run: i, name, status, signal, stderr });
      expect([0, 1], said).toContain(status);
      // In a line, not by a stack.
      expect(/^ +at /m.test(stderr), said).toBe(false);
      expect(status === 0 || stderr.includes('error: '), said).toBe(true);
      const outcome = `${name}: ${status === 0 ? 'good' : 'refused'}`;
      done[outcome] = (done[outcome] ?? 0) + 1;

      // What is there is read, by whoever has it open as well, and room can be made.
      await good('verify', ...store, kept);
      await good('cat', '--store', daemon.url, `${kept}/large`);
      await good('gc', ...store, '--older-than', '0');
      rmSync(filler, { force: true });
      await good('fsck', ...store);
      for (const left of ['backup', 'out', 'static', 'bucket'])
        rmSync(join(disk, left), { recursive: true, force: true });
      await good('import', ...store, newTree());
      // What has come while it ran, a collection leaves alone.
      expect(await daemon.stop()).toBe(0);
      await good('gc', ...store, '--older-than', '0');
      daemon = await startDaemon(store[1]!);
    }
    expect(await daemon.stop()).toBe(0);
    if (process.env.DISK_RUNS) console.log(done);
  },
  60_000 + RUNS * 30_000,
);
