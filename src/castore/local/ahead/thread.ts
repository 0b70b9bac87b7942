import { closeSync, openSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { DEFAULT_CUTTER } from '../../blob/cutter-options.ts';
import { isDigestOf } from '../../digest.ts';
import { readsWhole } from '../whole-chunk.ts';
import { SLOTS, Slots, STATE, WORD } from './slots.ts';

/** It leaves when it has not been asked for so long, in milliseconds. */
const IDLE_MS = 10_000;

const slots = new Slots(workerData as SharedArrayBuffer);
let buffer = Buffer.allocUnsafeSlow(DEFAULT_CUTTER.max);

for (let slot = 0; ; ) {
  const asked = Atomics.load(slots.words, WORD.ASKED);
  // Each in turn, so that what was asked for first is hashed first.
  let skipped = 0;
  while (skipped < SLOTS && !slots.change(slot, STATE.WANTED, STATE.BUSY)) {
    slot = (slot + 1) % SLOTS;
    skipped++;
  }
  if (skipped < SLOTS) slots.change(slot, STATE.BUSY, isSound(slot) ? STATE.SOUND : STATE.FAILED);
  else if (Atomics.wait(slots.words, WORD.ASKED, asked, IDLE_MS) === 'timed-out') break;
}
Atomics.store(slots.words, WORD.LEFT, 1);

/** Whether a chunk is what its digest says. What is wrong with one that is not, those who read it will say. */
function isSound(slot: number): boolean {
  const { path, size, digest } = slots.wanted(slot);
  if (buffer.length < size) buffer = Buffer.allocUnsafeSlow(size);
  const bytes = buffer.subarray(0, size);
  try {
    const fd = openSync(path, 'r');
    try {
      return readsWhole(fd, bytes) && isDigestOf(digest, bytes);
    } finally {
      closeSync(fd);
    }
  } catch {
    return false;
  }
}
