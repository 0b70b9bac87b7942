import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Gathering } from '../../src/util/async/gathering.ts';

/** Calls that are under way until somebody ends them. */
function gathering(full = 10) {
  const calls: number[][] = [];
  const ends: (() => void)[] = [];
  const items = new Gathering<number>({
    call: (some) => {
      calls.push([...some]);
      return new Promise((resolve) => ends.push(resolve));
    },
    sizeOf: (item) => item,
    full: () => full,
  });
  const add = (...some: number[]) => {
    for (const item of some) items.add(item);
  };
  const end = async () => {
    ends.shift()!();
    await turn();
  };
  return { items, calls, add, end };
}

describe('gathering', () => {
  test('what comes at the same time goes together, and what comes alone goes at once', async () => {
    const { add, calls } = gathering();
    add(1, 2, 3);
    expect(calls).toEqual([]);
    await turn();
    add(4);
    await turn();
    expect(calls).toEqual([[1, 2, 3], [4]]);
  });

  test('behind two calls it waits until one of them has ended, or a call is full', async () => {
    const { add, end, calls } = gathering();
    for (const item of [1, 2, 3, 4]) {
      add(item);
      await turn();
    }
    expect(calls).toEqual([[1], [2]]);
    await end();
    expect(calls).toEqual([[1], [2], [3, 4]]);
    add(5, 6);
    expect(calls).toEqual([[1], [2], [3, 4], [5]]);
  });

  test('what is left behind a full call waits for the others that come at the same time', async () => {
    const { add, calls } = gathering();
    add(6, 6, 1, 2);
    expect(calls).toEqual([[6]]);
    await turn();
    expect(calls).toEqual([[6], [6, 1, 2]]);
  });

  test('of full calls there are four at once', async () => {
    const { add, end, calls } = gathering();
    add(10, 10, 10, 10, 10, 10);
    expect(calls).toHaveLength(4);
    await end();
    await end();
    expect(calls).toHaveLength(6);
  });

  test('a call is not more than full, unless one alone is', async () => {
    const { add, calls } = gathering();
    add(30, 4, 4);
    await turn();
    expect(calls).toEqual([[30], [4, 4]]);
  });

  test('what has not been sent is taken back', async () => {
    const { items, add, calls } = gathering();
    add(1, 2);
    expect([items.remove(1), items.remove(3)]).toEqual([true, false]);
    await turn();
    expect([calls, items.remove(2)]).toEqual([[[2]], false]);
  });
});
