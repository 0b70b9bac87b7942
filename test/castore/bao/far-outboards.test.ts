import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { FarBlobs } from '../../../src/castore/blob/far-blobs.ts';
import { MemoryBlobService } from '../../../src/castore/blob/memory.ts';
import type { BlobService } from '../../../src/castore/blob/service.ts';
import { Digest } from '../../../src/castore/digest.ts';

const digest = Digest.hash(Buffer.from('far'));
const { signal } = new AbortController();

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A service that answers so when it is asked for an outboard. */
function answering(outboard: BlobService['outboard'] & {}): FarBlobs {
  return new FarBlobs(Object.assign(new MemoryBlobService(), { outboard }));
}

test('an outboard that does not come, or fails, is done without', async () => {
  const silent = answering(() => new Promise(() => {})).outboard(digest, signal);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await silent).toBeUndefined();
  const failing = answering(async () => Promise.reject(new Error('it cannot be had')));
  expect(await failing.outboard(digest, signal)).toBeUndefined();
});
