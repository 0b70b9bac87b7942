import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { StoreNeed } from '../../src/fs/need.ts';
import { needBlob, needDirectory } from '../../src/fs/need.ts';
import { FailedNeeds } from '../../src/mount/failed-needs.ts';

const PATH = new Uint8Array(20);
const DIGEST = new Uint8Array(32);
const PAGE = 4096;
const TIMEOUT_MS = 30_000;
const read = (offset: number, length: number) => needBlob(PATH, DIGEST, 1 << 30, offset, length, []);

// It must not matter how fast this machine is.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
  vi.advanceTimersByTime(1000);
});
afterEach(() => {
  vi.useRealTimers();
});

/** Asks again and again, so often, with a rest between, and waits each time for as long as that is worth while. */
function waits(failed: FailedNeeds, need: StoreNeed, times: number, restMs: number): (number | undefined)[] {
  return Array.from({ length: times }, () => {
    vi.advanceTimersByTime(restMs);
    const wait = failed.patience(need);
    if (!wait) return wait;
    vi.advanceTimersByTime(wait);
    failed.failed(need, wait);
    return wait;
  });
}
const sum = (waited: readonly (number | undefined)[]) => waited.reduce<number>((all, wait) => all + wait!, 0);

test('all who have waited for parts of the same read hear at once that it has failed', () => {
  const failed = new FailedNeeds(TIMEOUT_MS);
  for (const offset of [0, 1 << 20, 2 << 20]) failed.failed(read(offset, 1 << 20), TIMEOUT_MS);
  const pages = [2 << 20, 0, 8 * PAGE, (3 << 20) - PAGE];
  for (let i = 0; i < 12; i++)
    for (const offset of pages) expect(waits(failed, read(offset, PAGE), 1, 2)).toEqual([0]);
  expect(failed.patience(read(3 << 20, PAGE))).toBeUndefined();
});

test('all who have waited for the same name hear at once that it has failed', () => {
  const failed = new FailedNeeds(TIMEOUT_MS);
  const need = needDirectory(PATH, DIGEST);
  failed.failed(need, 3000);
  expect(waits(failed, need, 50, 1)).toEqual(Array(50).fill(0));
});

test('on a busy machine they wait little longer, or not at all where that shows', () => {
  const failed = new FailedNeeds(TIMEOUT_MS);
  failed.failed(read(0, 1 << 20), TIMEOUT_MS, 150);
  expect(waits(failed, read(0, PAGE), 6, 100)).toEqual(Array(6).fill(0));
  failed.met(read(0, PAGE));
  failed.failed(read(0, 1 << 20), TIMEOUT_MS);
  expect(sum(waits(failed, read(0, PAGE), 8, 100))).toBeLessThanOrEqual(TIMEOUT_MS / 4);
});

test('who comes after a moment has all the time, and who comes sooner has time to find a store that is back', () => {
  const failed = new FailedNeeds(TIMEOUT_MS);
  failed.failed(read(0, 1 << 20), TIMEOUT_MS);
  vi.advanceTimersByTime(50);
  expect(failed.patience(read(0, PAGE))).toBeGreaterThanOrEqual(3000);
  // Others meanwhile are no worse off, whatever they read of it.
  vi.advanceTimersByTime(2900);
  expect(failed.patience(read(8 * PAGE, PAGE))).toBeGreaterThanOrEqual(3000);
  failed.met(read(0, PAGE));
  expect(failed.patience(read(9 * PAGE, PAGE))).toBeUndefined();
  failed.failed(read(0, 1 << 20), TIMEOUT_MS);
  vi.advanceTimersByTime(600);
  expect(failed.patience(read(0, PAGE))).toBeUndefined();
});

test.each([0, 1, 40, 100, 400])('who does nothing but ask, each %i ms, has more and more time', (restMs) => {
  const failed = new FailedNeeds(TIMEOUT_MS);
  failed.failed(read(0, 1 << 20), TIMEOUT_MS);
  let longest = 0;
  for (const begun = performance.now(); longest < TIMEOUT_MS; ) {
    const [wait] = waits(failed, read(0, PAGE), 1, Math.max(restMs, 0.2));
    longest = Math.max(longest, wait!);
    expect(performance.now() - begun).toBeLessThan(150_000);
  }
});

test('a process that has begun since has all the time', () => {
  const failed = new FailedNeeds(TIMEOUT_MS);
  failed.failed(read(0, 1 << 20), TIMEOUT_MS);
  vi.advanceTimersByTime(5);
  expect(failed.patience(read(0, PAGE), (sinceMs) => sinceMs > 2)).toBeUndefined();
  expect(failed.patience(read(0, PAGE), (sinceMs) => sinceMs > 10)).toBe(0);
});

test('what has failed soon is tried again', () => {
  const failed = new FailedNeeds(TIMEOUT_MS);
  failed.failed(needDirectory(PATH, DIGEST), 100);
  expect(failed.patience(needDirectory(PATH, DIGEST))).toBeUndefined();
});
