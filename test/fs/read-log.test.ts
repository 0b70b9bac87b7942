import { expect, test } from 'vitest';
import type { ReadEntry } from '../../src/fs/read-log.ts';
import { READING, ReadLog } from '../../src/fs/read-log.ts';

const entry = (n: number): ReadEntry => ({
  kind: n % 2 === 0 ? READING.file : READING.part,
  storePath: new Uint8Array(20).fill(n),
  directory: new Uint8Array(32).fill(n + 1),
  entry: n,
  start: 2 ** 32 - 1,
  count: n,
  child: new Uint8Array(32).fill(n + 2),
});

test('a log gives what was noted by any thread, once, in order', () => {
  const memory = ReadLog.allocate();
  const [one, other, taker] = [new ReadLog(memory), new ReadLog(memory), new ReadLog(memory)];
  for (let n = 0; n < 6; n++) (n % 2 === 0 ? one : other).note(entry(n));
  expect([...taker.take()]).toEqual([0, 1, 2, 3, 4, 5].map(entry));
  expect([...taker.take()]).toEqual([]);
});

test('a log that nobody takes from fills up, and goes on when it is taken from', () => {
  const log = new ReadLog(ReadLog.allocate());
  for (let round = 0; round < 3; round++) {
    for (let n = 0; n < 50_000; n++) log.note(entry(n));
    const taken = [...log.take()];
    expect(taken.length).toBeGreaterThan(10_000);
    expect(taken.length).toBeLessThan(50_000);
    expect(taken.map(({ entry }) => entry)).toEqual(taken.map((_, n) => n));
  }
});
