import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { needBlob, needDirectory } from '../../src/fs/need.ts';
import { FailedNeeds } from '../../src/mount/failed-needs.ts';

const PATH = new Uint8Array(20);
const DIGEST = new Uint8Array(32);
const PAGE = 4096;
const read = (offset: number, length: number) => needBlob(PATH, DIGEST, 1 << 30, offset, length, []);

// It must not matter how fast this machine is.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
  vi.advanceTimersByTime(1000);
});
afterEach(() => {
  vi.useRealTimers();
});

test('pages of reads that failed are waited for a moment longer when the kernel asks for them again', () => {
  const failed = new FailedNeeds();
  for (const offset of [0, 1 << 20, 2 << 20]) failed.note(read(offset, 1 << 20), 3000);
  vi.advanceTimersByTime(10);
  for (const offset of [2 << 20, 0, 8 * PAGE, (3 << 20) - PAGE])
    expect(failed.patience(read(offset, PAGE))).toBeLessThanOrEqual(1000);
  expect(failed.patience(read(3 << 20, PAGE))).toBeUndefined();
  // Whoever reads on, or begins anew, does not ask for pages.
  expect(failed.patience(read(16 * PAGE, 32 * PAGE))).toBeUndefined();
  vi.advanceTimersByTime(2000);
  expect(failed.patience(read(0, PAGE))).toBeUndefined();
});

test('of those who have waited for the same page, the first two give it time to come', () => {
  const failed = new FailedNeeds();
  failed.note(read(0, 1 << 20), 3000);
  const waits: number[] = [];
  for (let i = 0; i < 10; i++) {
    vi.advanceTimersByTime(5);
    const wait = failed.patience(read(PAGE, PAGE))!;
    waits.push(wait);
    if (wait === 0) continue;
    vi.advanceTimersByTime(wait);
    failed.note(read(PAGE, PAGE), wait);
  }
  expect(waits.filter((wait) => wait >= 500).length).toBe(2);
  expect(waits.reduce((sum, wait) => sum + wait)).toBeLessThan(2000);
});

test('all who have waited for the same name hear at once that it has failed, and who comes later tries', () => {
  const failed = new FailedNeeds();
  const need = needDirectory(PATH, DIGEST);
  failed.note(need, 3000);
  for (let i = 0; i < 50; i++) expect(failed.patience(need)).toBe(0);
  vi.advanceTimersByTime(100);
  expect(failed.patience(need)).toBeUndefined();
});

test('who reads the same page again and again is given all the time at last', () => {
  const failed = new FailedNeeds();
  failed.note(read(0, 1 << 20), 3000);
  let tries = 0;
  for (let wait: number | undefined = 0; wait !== undefined && tries < 1000; tries++) {
    wait = failed.patience(read(0, PAGE));
    vi.advanceTimersByTime(wait || 100);
    failed.note(read(0, PAGE), wait || 100);
  }
  expect(tries).toBeLessThan(10);
});

test('who tries again and again is not kept from it', () => {
  const failed = new FailedNeeds();
  const need = needDirectory(PATH, DIGEST);
  failed.note(need, 3000);
  let tries = 0;
  for (; failed.patience(need) === 0 && tries < 1000; tries++) vi.advanceTimersByTime(5);
  expect(tries).toBeLessThan(1000);
});

test('what has failed soon is tried again', () => {
  const failed = new FailedNeeds();
  failed.note(needDirectory(PATH, DIGEST), 100);
  expect(failed.patience(needDirectory(PATH, DIGEST))).toBeUndefined();
});
