import { getEventListeners } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { orAborted } from '../../src/util/async/abort.ts';
import { ArrivalTeller } from '../../src/util/async/arrivals.ts';
import { eachOf } from '../../src/util/async/each-of.ts';
import { mapAhead } from '../../src/util/async/iterables.ts';
import { Limiter } from '../../src/util/async/limiter.ts';
import { Turns } from '../../src/util/async/turns.ts';

const reason = new Error('enough');

test('a wait ends by its signal, before or while it lasts, and leaves no listener behind', async () => {
  const abort = new AbortController();
  expect(await orAborted(Promise.resolve(1), abort.signal)).toBe(1);
  await expect(orAborted(Promise.reject(new Error('failed')), abort.signal)).rejects.toThrow('failed');
  expect(getEventListeners(abort.signal, 'abort')).toEqual([]);
  const late = Promise.withResolvers<void>();
  const waiting = orAborted(late.promise, abort.signal);
  abort.abort(reason);
  await expect(waiting).rejects.toBe(reason);
  await expect(orAborted(late.promise, abort.signal)).rejects.toBe(reason);
  // What fails when nobody waits any more is no unhandled rejection.
  late.reject(new Error('too late'));
  await delay(0);
});

test('a limit lets so many work at once, in order, and one that leaves the queue passes its place on', async () => {
  const limiter = new Limiter(2);
  const gates = Array.from({ length: 4 }, () => Promise.withResolvers<void>());
  const begun: number[] = [];
  const leave = new AbortController();
  const runs = gates.map((gate, i) =>
    limiter.run(
      () => {
        begun.push(i);
        return gate.promise;
      },
      i === 2 ? leave.signal : undefined,
    ),
  );
  await delay(0);
  expect(begun).toEqual([0, 1]);
  leave.abort(reason);
  await expect(runs[2]).rejects.toBe(reason);
  gates[1]!.resolve();
  await runs[1];
  await delay(0);
  expect(begun).toEqual([0, 1, 3]);
  for (const gate of gates) gate.resolve();
  await Promise.all([runs[0], runs[3]]);
});

test('a loop over items keeps to its limit, and the first failure stops the rest and is thrown at the end', async () => {
  let running = 0;
  let most = 0;
  const done: number[] = [];
  const work = async (item: number, signal: AbortSignal) => {
    most = Math.max(most, ++running);
    await orAborted(delay(item === 5 ? 0 : 20), signal).finally(() => running--);
    if (item === 5) throw new Error('the fifth');
    done.push(item);
  };
  const items = [1, 2, 3, 4, 5, 6, 7, 8];
  await expect(eachOf(items, 3, undefined, work)).rejects.toThrow('the fifth');
  expect([most, running, done.includes(8)]).toEqual([3, 0, false]);
});

test('results come in the order of the items, and who has seen enough waits for what has begun', async () => {
  const ended: number[] = [];
  const work = async (item: number) => {
    await delay(10 * (4 - item));
    ended.push(item);
    return item;
  };
  expect(await Array.fromAsync(mapAhead([1, 2, 3], 3, work))).toEqual([1, 2, 3]);
  ended.length = 0;
  for await (const item of mapAhead([3, 2, 1, 0], 3, work)) if (item === 3) break;
  expect(ended.sort()).toEqual([1, 2, 3]);
});

test('long work hears its signal at the next turn, and others have theirs', async () => {
  const abort = new AbortController();
  const turns = new Turns(abort.signal);
  setImmediate(() => abort.abort(reason));
  const work = async () => {
    for (;;) if (turns.isDue) await turns.take();
  };
  await expect(work()).rejects.toBe(reason);
});

test('what arrives in many parts is told of now and then, and the last of it soon, not with what comes next', async () => {
  const told: number[] = [];
  const teller = new ArrivalTeller((bytes) => told.push(bytes), 30);
  for (const part of [1, 2, 3]) teller.arrived(part);
  expect(told).toEqual([1]);
  await expect.poll(() => told).toEqual([1, 5]);
  await delay(60);
  teller.end();
  expect(told).toEqual([1, 5]);
  for (const part of [7, 8]) teller.arrived(part);
  teller.end();
  await delay(60);
  expect(told).toEqual([1, 5, 7, 8]);
});
