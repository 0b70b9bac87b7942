import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { resuming, retrying } from '../../src/util/async/retry.ts';
import { StoreError } from '../../src/util/errors.ts';

const away = (message = 'away') => new StoreError('UNAVAILABLE', message);
const isTransient = (error: unknown) => error instanceof StoreError && error.code === 'UNAVAILABLE';

/** Fails so often, then gives what it is. */
function failing<T>(times: number, value: T, error: () => Error = away) {
  let tries = 0;
  const attempt = async () => {
    if (++tries <= times) throw error();
    return value;
  };
  return { attempt, tries: () => tries };
}

describe('what fails for a reason that may pass', () => {
  test('is tried again, and what fails for another is not', async () => {
    const passing = failing(3, 'there');
    expect(await retrying({ awayMs: 60_000, isTransient }, passing.attempt)).toBe('there');
    expect(passing.tries()).toBe(4);
    const lasting = failing(1, 'there', () => new Error('wrong'));
    await expect(retrying({ awayMs: 60_000, isTransient }, lasting.attempt)).rejects.toThrow('wrong');
    expect(lasting.tries()).toBe(1);
  });

  test('is given up when that has lasted for as long as one waits, or at once', async () => {
    const never = failing(Number.POSITIVE_INFINITY, '');
    await expect(retrying({ awayMs: 300, isTransient }, never.attempt)).rejects.toThrow('away');
    expect(never.tries()).toBeGreaterThan(1);
    const once = failing(1, '');
    await expect(retrying({ awayMs: 0, isTransient }, once.attempt)).rejects.toThrow('away');
  });

  test('is left at once by who does not want it any more, and it is told why it failed', async () => {
    const never = failing(Number.POSITIVE_INFINITY, '', () => away('nobody listens there'));
    const options = { awayMs: Number.POSITIVE_INFINITY, isTransient };
    const leave = new AbortController();
    const work = retrying({ ...options, signal: leave.signal }, never.attempt);
    await delay(20);
    const reason = new Error('enough');
    leave.abort(reason);
    await expect(work).rejects.toBe(reason);
    const late = new AbortController();
    const waiting = retrying({ ...options, signal: late.signal }, never.attempt);
    await delay(20);
    late.abort(new StoreError('DEADLINE_EXCEEDED', 'nothing arrived for 1 s'));
    await expect(waiting).rejects.toThrow('nothing arrived for 1 s: nobody listens there');
    const before = never.tries();
    await expect(retrying({ ...options, signal: leave.signal }, never.attempt)).rejects.toBe(reason);
    expect(never.tries()).toBe(before);
  });
});

describe('a stream that breaks', () => {
  test('goes on, and what comes of it is progress', async () => {
    const items = [1, 2, 3, 4, 5];
    let next = 0;
    let begun = 0;
    const begin = async function* () {
      begun++;
      // Nothing comes of every second one.
      if (begun % 2 === 0) throw away();
      await delay(400);
      while (next < items.length) {
        yield items[next++]!;
        if (next < items.length) throw away();
      }
    };
    // In all it takes longer than one waits for a part.
    const got = await Array.fromAsync(resuming({ awayMs: 1500, isTransient }, begin));
    expect(got).toEqual(items);
    expect(begun).toBe(9);
  });

  test('and brings nothing more is given up', async () => {
    const begin = async function* () {
      if (Date.now() < 0) yield 0;
      throw away('for ever');
    };
    await expect(Array.fromAsync(resuming({ awayMs: 200, isTransient }, begin))).rejects.toThrow('for ever');
  });
});
