import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Budget } from '../../src/server/shares/budget.ts';
import { FairLimiter } from '../../src/server/shares/fair-limiter.ts';
import { FairTurns } from '../../src/server/shares/fair-turns.ts';
import type { Holding } from '../../src/server/shares/holding.ts';
import type { StoreError } from '../../src/util/errors.ts';

const MIB = 1 << 20;

/** A call of a client, and with what it was cut off. */
function callOf(budget: Budget, peer: string) {
  const call = { cut: undefined as string | undefined, holding: undefined as unknown as Holding };
  call.holding = budget.share(peer).open((error: StoreError) => {
    call.cut = error.code;
  });
  return call;
}

/** Whether it is granted by now. */
async function isGranted(claim: Promise<void> | undefined): Promise<boolean> {
  if (!claim) return true;
  return Promise.race([claim.then(() => true), delay(20).then(() => false)]);
}

describe('a budget', () => {
  test('gives one client three quarters, and the rest to others', async () => {
    const budget = new Budget(64 * MIB);
    const [greedy, again, other] = [callOf(budget, 'a'), callOf(budget, 'a'), callOf(budget, 'b')];
    expect(await isGranted(greedy.holding.take(48 * MIB))).toBe(true);
    const more = again.holding.take(MIB);
    expect(await isGranted(more)).toBe(false);
    expect(await isGranted(other.holding.take(8 * MIB))).toBe(true);
    greedy.holding.give(2 * MIB);
    expect(await isGranted(more)).toBe(true);
    for (const { holding } of [greedy, again, other]) holding.close();
    expect(budget.held).toBe(0);
  });

  test('lets the client go first that would hold the least, and forgets those that have gone', async () => {
    const budget = new Budget(64 * MIB);
    const calls = Array.from({ length: 4 }, (_, i) => callOf(budget, `peer ${i}`));
    const [first, second, third, fourth] = calls as [Call, Call, Call, Call];
    await first.holding.take(48 * MIB);
    await second.holding.take(16 * MIB);
    const large = second.holding.take(4 * MIB);
    const small = third.holding.take(4 * MIB);
    const gone = fourth.holding.take(4 * MIB);
    expect(await isGranted(small)).toBe(false);
    fourth.holding.close();
    expect(await isGranted(gone)).toBe(true);
    first.holding.give(4 * MIB);
    expect(await isGranted(small)).toBe(true);
    expect(await isGranted(large)).toBe(false);
    first.holding.close();
    expect(await isGranted(large)).toBe(true);
  });

  test('cuts off who is idle, and nobody who waits for the server', async () => {
    const budget = new Budget(64 * MIB, 2000);
    const [idle, served, moving] = [callOf(budget, 'a'), callOf(budget, 'b'), callOf(budget, 'c')];
    idle.holding.await('send');
    moving.holding.await('read');
    const timer = setInterval(() => moving.holding.moved(1), 50);
    await expect.poll(() => idle.cut, { timeout: 20_000 }).toBe('DEADLINE_EXCEEDED');
    clearInterval(timer);
    expect([served.cut, moving.cut]).toEqual([undefined, undefined]);
  });

  test('takes memory from those who hold too much of it and do not move, when others wait', async () => {
    const budget = new Budget(64 * MIB);
    const stalled = [callOf(budget, 'a'), callOf(budget, 'b')];
    for (const { holding } of stalled) {
      await holding.take(31 * MIB);
      holding.await('read');
    }
    await delay(0);
    const good = callOf(budget, 'good');
    // It may wait for as long as the others need to be found out.
    await good.holding.take(8 * MIB);
    expect(stalled.map(({ cut }) => cut).sort()).toEqual(['RESOURCE_EXHAUSTED', undefined]);
    expect(good.cut).toBe(undefined);
  });

  test('gives a little to everybody at once, whatever the others hold', async () => {
    const budget = new Budget(64 * MIB);
    const greedy = Array.from({ length: 50 }, (_, i) => callOf(budget, `greedy ${i}`));
    for (const { holding } of greedy) void holding.take(8 * MIB);
    for (const { holding } of greedy) holding.arrive(MIB);
    const good = callOf(budget, 'good');
    for (let i = 0; i < 4; i++) expect(good.holding.take(MIB / 2)).toBe(undefined);
    expect(await isGranted(good.holding.take(MIB / 2))).toBe(false);
    expect(greedy.filter(({ cut }) => cut)).toEqual([]);
  });

  test('cuts off who sends more unasked than is kept, and not those with little', () => {
    const budget = new Budget(64 * MIB);
    const small = Array.from({ length: 40 }, (_, i) => callOf(budget, `small ${i}`));
    for (const { holding } of small) holding.arrive(MIB);
    const greedy = Array.from({ length: 40 }, () => callOf(budget, 'greedy'));
    for (const { holding } of greedy) holding.arrive(MIB);
    const cut = greedy.filter((call) => call.cut === 'RESOURCE_EXHAUSTED').length;
    expect(cut).toBe(40 + 40 - 48);
    expect(small.filter((call) => call.cut)).toEqual([]);
  });

  test('cuts off who makes more than may be held', () => {
    const budget = new Budget(64 * MIB);
    const calls = Array.from({ length: 10 }, () => callOf(budget, 'a'));
    const other = callOf(budget, 'b');
    for (const { holding } of calls) holding.add(20 * MIB);
    expect(budget.held).toBeLessThan(100 * MIB);
    expect(calls.filter(({ cut }) => cut === 'RESOURCE_EXHAUSTED').length).toBeGreaterThan(4);
    expect(other.cut).toBe(undefined);
  });

  test('lets those go on who wait for each other', async () => {
    const budget = new Budget(64 * MIB);
    const calls = Array.from({ length: 7 }, (_, i) => callOf(budget, `peer ${i}`));
    for (const { holding } of calls) await holding.take(8 * MIB);
    await Promise.race(calls.map(({ holding }) => holding.take(4 * MIB)));
  }, 20_000);
});

type Call = ReturnType<typeof callOf>;

describe('clients take turns', () => {
  test('in beginning work', async () => {
    const budget = new Budget();
    const turns = new FairTurns();
    const order: string[] = [];
    const ask = async (peer: string) => {
      await turns.take(callOf(budget, peer).holding.share);
      order.push(peer);
    };
    const greedy = Array.from({ length: 1000 }, () => ask('greedy'));
    await Promise.all([...greedy, ask('good')]);
    expect(order.indexOf('good')).toBeLessThan(100);
  });

  test('in long work', async () => {
    const budget = new Budget();
    const limiter = new FairLimiter(1);
    const order: string[] = [];
    const { signal } = new AbortController();
    const ask = (peer: string) =>
      limiter.run(callOf(budget, peer).holding.share, async () => void order.push(peer), signal);
    const greedy = Array.from({ length: 10 }, () => ask('greedy'));
    await Promise.all([ask('good'), ...greedy]);
    expect(order.indexOf('good')).toBeLessThan(4);
    await expect(
      limiter.run(callOf(budget, 'x').holding.share, async () => 1, AbortSignal.abort('gone')),
    ).rejects.toBe('gone');
    expect(await limiter.run(callOf(budget, 'x').holding.share, async () => 2, signal)).toBe(2);
  });
});
