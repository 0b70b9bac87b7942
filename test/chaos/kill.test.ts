import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, onTestFailed, test } from 'vitest';
import { CLI, printedBy } from '../helpers/cli.ts';
import { randomNumbers, SEED } from '../helpers/random.ts';
import { checkLocalStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { generateTree, writeTree } from '../helpers/trees.ts';

/** Trees that share some of their contents, and are imported as one store path each. */
const TREES = 6;
const FILES_EACH = 450;
const KILLS = 25;
/** Kills of imports into the same store, before a fresh one is taken. */
const KILLS_A_STORE = 5;

const dir = tempDir();
const paths = Array.from({ length: TREES }, (_, i) => join(dir, 'trees', `tree-${i}`));
const random = randomNumbers(SEED);
const running = new Set<ChildProcess>();
/** What an import that nobody disturbs prints, and how long it takes. */
let expected: string[] = [];
let duration = 0;

/** An import under way. */
function startImport(store: string, what: readonly string[] = paths) {
  const child = spawn(process.execPath, [CLI, 'import', '--store', `local://${store}`, ...what]);
  running.add(child);
  const output = printedBy(child);
  const ended = once(child, 'close').then(([status]) => {
    running.delete(child);
    return { status: status as number | null, stderr: output.stderr, printed: printed() };
  });
  // A line that was cut off by the kill was not printed.
  const printed = () => output.stdout.split('\n').slice(0, -1);
  return { child, ended };
}

/** Imports to the end. */
async function finishImport(store: string, what?: readonly string[]): Promise<string[]> {
  const { status, stderr, printed } = await startImport(store, what).ended;
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return printed;
}

function tellSeed(): void {
  onTestFailed(() => console.error(`to repeat this: TEST_SEED=${SEED}`));
}

beforeAll(async () => {
  mkdirSync(join(dir, 'trees'));
  for (const [i, path] of paths.entries()) writeTree(path, generateTree(FILES_EACH, i));
  const begun = performance.now();
  expected = await finishImport(join(dir, 'undisturbed'));
  duration = performance.now() - begun;
  expect(await checkLocalStore(join(dir, 'undisturbed'))).toEqual([...expected].sort());
});

afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
});

describe('an import that is killed at any moment', () => {
  test.each(Array.from({ length: KILLS / KILLS_A_STORE }, (_, i) => i))(
    'leaves store %i whole, and the next import works',
    async (round) => {
      tellSeed();
      const store = join(dir, `killed-${round}`);
      const acknowledged = new Set<string>();
      for (let kill = 0; kill < KILLS_A_STORE; kill++) {
        // In another order each time, so that each begins with something new.
        const order = [...paths].sort(() => random() - 0.5);
        const { child, ended } = startImport(store, order);
        await delay(random() * duration);
        child.kill('SIGKILL');
        for (const path of (await ended).printed) acknowledged.add(path);
        const whole = await checkLocalStore(store);
        expect(whole).toEqual(expect.arrayContaining([...acknowledged]));
        expect(expected).toEqual(expect.arrayContaining(whole));
      }
      expect(await finishImport(store)).toEqual(expected);
      expect(await checkLocalStore(store)).toEqual([...expected].sort());
    },
  );
});

describe('imports at the same time', () => {
  test('harm nothing when one of them is killed', async () => {
    tellSeed();
    const store = join(dir, 'together');
    const victim = startImport(store);
    const other = startImport(store, [...paths].reverse());
    await delay(random() * duration);
    victim.child.kill('SIGKILL');
    const { status, stderr, printed } = await other.ended;
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(printed).toEqual([...expected].reverse());
    await victim.ended;
    expect(await checkLocalStore(store)).toEqual([...expected].sort());
  });

  test.each([0, 1, 2])('end when one of them is stopped, or else once it goes on (%i)', async (round) => {
    tellSeed();
    const store = join(dir, `stopped-${round}`);
    const stopped = startImport(store);
    await delay(random() * duration);
    stopped.child.kill('SIGSTOP');
    const others = [startImport(store, [...paths].reverse()), startImport(store)];
    const ended = Promise.all(others.map((other) => other.ended));
    // Only one that was stopped inside a transaction, a matter of milliseconds, holds up the others.
    await Promise.race([ended, delay(8 * duration)]);
    stopped.child.kill('SIGCONT');
    for (const { status, stderr } of [...(await ended), await stopped.ended]) {
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    }
    expect(await checkLocalStore(store)).toEqual([...expected].sort());
  });
});
