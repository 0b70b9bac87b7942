import { workerData } from 'node:worker_threads';
import { DigestHasher } from '../digest.ts';
import { cutter } from './chunker.ts';
import type { CutThreadData } from './cut-protocol.ts';
import { CONTROL, CUTS } from './cut-protocol.ts';
import { DEFAULT_CUTTER } from './cutter-options.ts';

const WAIT_MS = 10;
const { max } = DEFAULT_CUTTER;

const { control, ring, cuts, digest } = workerData as CutThreadData;
const hasher = new DigestHasher();
const cut = cutter(DEFAULT_CUTTER);
/** A chunk that goes over the ring's end is laid out here. */
const unrolled = Buffer.allocUnsafeSlow(max);

for (let start = 0, count = 0; ; ) {
  const finished = Atomics.load(control, CONTROL.FINISHED);
  const written = Atomics.load(control, CONTROL.WRITTEN);
  const ready = (written - start) | 0;
  if (ready >= max || (finished && ready > 0)) {
    const length = lengthOfNext(start >>> 0, Math.min(ready, max));
    // Before the chunk is told of: then its place may be written over.
    hash((start >>> 0) % ring.length, length);
    start = (start + length) | 0;
    cuts[count % CUTS] = start;
    count++;
    Atomics.store(control, CONTROL.CUT, count);
    Atomics.notify(control, CONTROL.CUT);
  } else if (finished) {
    break;
  } else {
    Atomics.wait(control, CONTROL.WRITTEN, written, WAIT_MS);
  }
}

digest.set(hasher.digest().bytes);
Atomics.store(control, CONTROL.HASHED, 1);
Atomics.notify(control, CONTROL.HASHED);

function hash(from: number, length: number): void {
  const first = Math.min(length, ring.length - from);
  hasher.update(ring.subarray(from, from + first));
  if (first < length) hasher.update(ring.subarray(0, length - first));
}

function lengthOfNext(offset: number, available: number): number {
  const from = offset % ring.length;
  if (from + available <= ring.length) return cut(ring, from, from + available) - from;
  const first = ring.length - from;
  unrolled.set(ring.subarray(from));
  unrolled.set(ring.subarray(0, available - first), first);
  return cut(unrolled, 0, available);
}
