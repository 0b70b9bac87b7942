import type { ChildProcess } from 'node:child_process';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, expect, onTestFailed, test } from 'vitest';
import { CLI, printedBy, run, tvixStore } from '../helpers/cli.ts';
import { mount } from '../helpers/mount.ts';
import { randomNumbers, SEED } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { generateTree, writeTree } from '../helpers/trees.ts';

/** How long; `scripts/soak` takes longer. */
const SECONDS = Number(process.env.SOAK_SECONDS ?? 30);
const TREES = 40;
const FILES_EACH = 30;
/** A process is stopped for at most so long, and lives for at most so long before it is killed; in milliseconds. */
const STOPPED_MS = 2000;
const LIFE_MS = 1500;
/** Longer than this nobody may take, but for the time for which it was stopped itself: others may be. */
const STUCK_MS = 10_000 + STOPPED_MS;
/** What a start of the program and a sync take at the most on a machine that is not overwhelmed, in milliseconds. */
const START_MS = 1000;

const NO_DIFFERENCE = { status: 0, stdout: '', stderr: '' };

const dir = tempDir();
const store = ['--store', `local://${dir}/store`];
const socket = join(dir, 'socket');
const mountPoint = join(dir, 'mount');
const random = randomNumbers(SEED);
const below = (limit: number) => Math.floor(random() * limit);
const trees = Array.from({ length: TREES }, (_, i) => join(dir, 'trees', `tree-${i}`));
const running = new Set<ChildProcess>();
const counts: Record<string, number> = {};

function count(what: string): void {
  counts[what] = (counts[what] ?? 0) + 1;
}

function unmount(): void {
  spawnSync('umount', ['-l', mountPoint], { stdio: 'ignore' });
}

afterAll(() => {
  for (const child of running) child.kill('SIGKILL');
  unmount();
});

/** By how much this machine is too slow just now for the times above: 1 for one that is not. */
async function slowness(): Promise<number> {
  const begun = performance.now();
  await Promise.all([run(process.execPath, [CLI, '--version']), run('sync', ['-f', dir])]);
  return Math.max(1, (performance.now() - begun) / START_MS);
}

/**
 * Runs the program, and stops and kills it on the way as it comes; gives what it printed. Whoever takes too long though
 * nobody keeps it fails the test.
 */
async function disturbed(
  args: readonly string[],
  { ends, ready }: { ends: boolean; ready?: string },
): Promise<string> {
  const child = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  const output = printedBy(child);
  const begun = performance.now();
  let stoppedMs = 0;
  const closed = once(child, 'close');
  const disturb = async () => {
    // One in two is left alone until it serves.
    const waits = ready !== undefined && below(2) === 0;
    for (let i = 0; waits && i < 60 && child.exitCode === null && !output.stderr.includes(ready); i++)
      await delay(50);
    await delay(below(LIFE_MS));
    if (below(2) === 0 && child.exitCode === null) {
      const ms = below(STOPPED_MS);
      child.kill('SIGSTOP');
      await delay(ms);
      child.kill('SIGCONT');
      stoppedMs += ms;
      count('stops');
      await delay(below(LIFE_MS));
    }
    // One in three is left to come to its end, if it has one.
    if (ends && below(3) === 0) return;
    if (child.exitCode === null && child.kill('SIGKILL')) count('kills');
  };
  const disturbing = disturb();
  const within = (ms: number) => Promise.race([closed, delay(ms, ['stuck'])]);
  const allowed = STUCK_MS + STOPPED_MS + 2 * LIFE_MS;
  let [status] = await within(allowed);
  if (status === 'stuck') [status] = await within(((await slowness()) - 1) * allowed);
  if (status === 'stuck') throw new Error(`${args.join(' ')} is stuck: ${output.stderr}`);
  await disturbing;
  running.delete(child);
  const took = performance.now() - begun - stoppedMs;
  const most = STUCK_MS + 2 * LIFE_MS;
  if (took > most && took > most * (await slowness()))
    throw new Error(`${args.join(' ')} took ${took} ms: ${output.stderr}`);
  count(`${args[0]}: ${status === null ? 'killed' : status === 0 ? 'good' : 'failed'}`);
  // It says why, and is not to blame, when somebody whom it needs was killed.
  if (status !== null && status !== 0) expect(output.stderr).toMatch(/error: /);
  return output.stdout;
}

test(
  `everything is stopped and killed at any moment, for ${SECONDS} s`,
  async () => {
    onTestFailed(() => console.error(`to repeat this: TEST_SEED=${SEED}`, counts));
    mkdirSync(join(dir, 'trees'));
    mkdirSync(mountPoint);
    for (const [i, path] of trees.entries()) writeTree(path, generateTree(FILES_EACH, i));
    const known = (
      await run(process.execPath, [CLI, 'import', '--store', `local://${dir}/undisturbed`, ...trees])
    ).stdout;
    const names = known.trim().split('\n');
    expect(names.length).toBe(TREES);
    await tvixStore(['import', ...store, trees[0]!]);
    /** Store paths that were printed, which nothing may take. */
    const acknowledged = new Set([names[0]!]);
    const deadline = Date.now() + SECONDS * 1000;
    const over = async (work: () => Promise<unknown>) => {
      while (Date.now() < deadline) await work();
    };
    const acknowledge = (stdout: string) => {
      // A line that was cut off was not printed.
      for (const line of stdout.split('\n').slice(0, -1)) acknowledged.add(line);
    };
    const some = () => [trees[below(TREES)]!, trees[below(TREES)]!];
    const anAcknowledged = () => [...acknowledged][below(acknowledged.size)]!;

    await Promise.all([
      over(async () => acknowledge(await disturbed(['import', ...store, ...some()], { ends: true }))),
      over(() => disturbed(['daemon', ...store, '-l', socket], { ends: false })),
      over(async () => {
        if (!existsSync(socket)) await delay(100);
        const far = ['--store', `grpc+unix://${socket}`];
        acknowledge(await disturbed(['import', ...far, trees[below(TREES)]!], { ends: true }));
      }),
      over(() => disturbed(['nar-bridge', ...store, '-l', join(dir, 'bridge')], { ends: false })),
      over(async () => {
        await disturbed(['mount', ...store, mountPoint], { ends: false, ready: 'mounted' });
        unmount();
      }),
      over(async () => {
        // Of what is read while the mount is killed, nothing is wrong but that it ends.
        const path = anAcknowledged();
        const name = path.slice('/nix/store/'.length);
        const original = trees[names.indexOf(path)]!;
        const { status, stdout } = await run('timeout', [
          '-s',
          'KILL',
          '10',
          'diff',
          '-r',
          '--no-dereference',
          original,
          join(mountPoint, name),
        ]);
        expect(stdout).not.toMatch(/^(Binary files|Only in|diff |Files )/m);
        // There may be no mount just now: only what was read to its end counts.
        if (status === 0) count('read');
        await delay(20);
      }),
      over(() => disturbed(['gc', ...store, '--older-than', '1h'], { ends: true })),
      over(() =>
        disturbed(['fsck', ...store, ...(below(2) === 0 ? ['--budget', '1s'] : [])], { ends: true }),
      ),
      over(() => disturbed(['backup', ...store, '--to', join(dir, 'backup')], { ends: true })),
    ]);

    const fsck = await tvixStore(['fsck', ...store]);
    expect(fsck).toMatchObject({ status: 0 });
    const listed = (await tvixStore(['path-info', ...store, '--all'])).stdout.trim().split('\n');
    expect(names).toEqual(expect.arrayContaining(listed));
    expect(listed).toEqual(expect.arrayContaining([...acknowledged]));
    const mounted = await mount(store);
    for (const path of acknowledged) {
      const original = trees[names.indexOf(path)]!;
      const at = join(mounted.dir, path.slice('/nix/store/'.length));
      expect(await run('diff', ['-r', '--no-dereference', original, at])).toEqual(NO_DIFFERENCE);
    }
    expect((await mounted.stop()).status).toBe(0);
    // Each is what its name says.
    expect(await tvixStore(['verify', ...store, '--all'])).toMatchObject({ status: 0 });
    expect(await tvixStore(['import', ...store, ...trees])).toMatchObject({ status: 0, stdout: known });
    expect(await tvixStore(['backup', ...store, '--to', join(dir, 'backup')])).toMatchObject({ status: 0 });
    expect(await tvixStore(['verify', '--store', `local://${dir}/backup`, '--all'])).toMatchObject({
      status: 0,
    });
    for (const what of ['kills', 'stops', 'import: good', 'gc: good', 'backup: good'])
      expect([what, counts[what] ?? 0]).not.toEqual([what, 0]);
    if (process.env.SOAK_SECONDS) console.log(counts);
  },
  SECONDS * 1000 + 180_000,
);
