import { createHash } from 'node:crypto';
import { constants, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import type { Sha256ThreadData } from './sha256-protocol.ts';
import { FINISHED, HASHED, WRITTEN } from './sha256-protocol.ts';

/** Hashed in one go: in pieces, so that room is given back early. */
const PIECE = 256 * 1024;
/** The word that says the end may have been set just before a wait. */
const WAIT_MS = 10;

const { control, ring, background } = workerData as Sha256ThreadData;
// Linux has a priority for each thread.
if (background) setPriority(constants.priority.PRIORITY_LOW);
const hash = createHash('sha256');
for (let hashed = 0; ; ) {
  const finished = Atomics.load(control, FINISHED);
  const written = Atomics.load(control, WRITTEN);
  const ready = (written - hashed) | 0;
  if (ready > 0) {
    const start = (hashed >>> 0) % ring.length;
    const count = Math.min(ready, ring.length - start, PIECE);
    hash.update(ring.subarray(start, start + count));
    hashed = (hashed + count) | 0;
    Atomics.store(control, HASHED, hashed);
    Atomics.notify(control, HASHED);
  } else if (finished) {
    break;
  } else {
    Atomics.wait(control, WRITTEN, written, WAIT_MS);
  }
}
parentPort!.postMessage(hash.digest());
