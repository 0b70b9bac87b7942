import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { Urgency } from '../../src/mount/fetch/transfers.ts';
import { Transfers, URGENCY } from '../../src/mount/fetch/transfers.ts';
import { watchArrivals } from '../../src/util/async/arrivals.ts';

const MIB = 1 << 20;
const never = new AbortController().signal;

/** Transfers that end when the test says so, and in which order they begin. */
function scripted() {
  const transfers = new Transfers();
  const begun: string[] = [];
  const ends = new Map<string, () => void>();
  const run = (key: string, urgency: Urgency = URGENCY.SMALL, size = MIB, signal = never) =>
    transfers.run(
      { key, size, urgency },
      () => {
        begun.push(key);
        return new Promise((resolve) => ends.set(key, resolve));
      },
      signal,
    );
  /** Ends those that have begun, one after the other, until none is left. */
  const endAll = async () => {
    for (let at = 0; at < begun.length; at++) {
      ends.get(begun[at]!)!();
      await delay(1);
    }
  };
  return { transfers, begun, run, end: (key: string) => ends.get(key)!(), endAll };
}

test('so much goes at once as the line may carry, and the rest in its turn', async () => {
  const { begun, run, endAll } = scripted();
  const all = Promise.all(['a', 'b', 'c', 'd'].map((key) => run(key)));
  await delay(1);
  expect(begun).toEqual(['a']);
  await endAll();
  await all;
  expect(begun).toEqual(['a', 'b', 'c', 'd']);
});

test('something larger than the limit goes alone', async () => {
  const { begun, run, endAll } = scripted();
  const all = Promise.all([run('large', URGENCY.SMALL, 100 * MIB), run('next')]);
  await delay(1);
  expect(begun).toEqual(['large']);
  await endAll();
  await all;
});

test('what somebody waits for comes first, and of those who read much, one now and then', async () => {
  const { begun, run, endAll } = scripted();
  const size = 100 * MIB;
  const keys: [string, Urgency][] = [
    ['first', URGENCY.SMALL],
    ['ahead', URGENCY.AHEAD],
    ['soon 1', URGENCY.NEXT],
    ['soon 2', URGENCY.NEXT],
    ...Array.from({ length: 6 }, (_, i): [string, Urgency] => [`now ${i}`, URGENCY.SMALL]),
  ];
  const all = Promise.all(keys.map(([key, urgency]) => run(key, urgency, size)));
  await endAll();
  await all;
  expect(begun).toEqual([
    'first',
    'now 0',
    'now 1',
    'soon 1',
    'now 2',
    'now 3',
    'now 4',
    'soon 2',
    'now 5',
    'ahead',
  ]);
});

test('one that is wanted sooner than when it was thought of goes ahead, and is done once', async () => {
  const { begun, run, endAll } = scripted();
  const size = 100 * MIB;
  const keys: [string, Urgency][] = [
    ['first', URGENCY.SMALL],
    ['a', URGENCY.AHEAD],
    ['b', URGENCY.AHEAD],
    ['c', URGENCY.NEXT],
    ['b', URGENCY.SMALL],
  ];
  const all = Promise.all(keys.map(([key, urgency]) => run(key, urgency, size)));
  await endAll();
  await all;
  expect(begun).toEqual(['first', 'b', 'c', 'a']);
});

test('one that is left while it waits is not begun, and one that never ends gives its place back', async () => {
  const { begun, run, endAll } = scripted();
  const leaving = new AbortController();
  const left = Promise.allSettled([
    run('stuck', URGENCY.SMALL, 100 * MIB, leaving.signal),
    run('waiting', URGENCY.SMALL, MIB, leaving.signal),
  ]);
  const stays = run('stays');
  await delay(1);
  leaving.abort(new Error('gone'));
  expect(await left).toMatchObject([{ status: 'rejected' }, { status: 'rejected' }]);
  await endAll();
  await stays;
  expect(begun).toEqual(['stuck', 'stays']);
});

test('one for which nothing comes does not keep the others waiting for long', async () => {
  const { begun, run, end } = scripted();
  const silent = run('silent', URGENCY.SMALL, 100 * MIB);
  const next = run('next');
  await expect.poll(() => begun, { timeout: 10_000 }).toEqual(['silent', 'next']);
  for (const key of begun) end(key);
  await Promise.all([silent, next]);
});

test('those who wait for their turn hear that something comes', async () => {
  const { transfers, run, endAll } = scripted();
  const first = run('first', URGENCY.SMALL, 100 * MIB);
  let heard = 0;
  const second = watchArrivals(
    (bytes) => {
      heard += bytes;
    },
    () => run('second'),
  );
  await delay(1);
  transfers.arrived(10_000);
  expect(heard).toBe(10_000);
  await endAll();
  await Promise.all([first, second]);
});

test('what arrives of other things is no reason to wait for ever for one of which nothing does', async () => {
  const { transfers, run, end } = scripted();
  let heard = 0;
  const stuck = watchArrivals(
    () => heard++,
    () => run('stuck'),
  );
  await delay(1);
  // It may have been behind the first of these, but not behind all.
  for (let i = 0; i < 4; i++) {
    transfers.arrived(16 * MIB);
    await delay(150);
  }
  expect(heard).toBe(1);
  end('stuck');
  await stuck;
});

test('nor are some bytes now and then, however many others they come for', async () => {
  const { transfers, run, end } = scripted();
  let heard = 0;
  const stuck = watchArrivals(
    () => heard++,
    () => run('stuck'),
  );
  await delay(1);
  for (let i = 0; i < 20; i++) {
    transfers.arrived(64);
    await delay(20);
  }
  expect(heard).toBe(0);
  end('stuck');
  await stuck;
});
