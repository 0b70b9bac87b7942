import { workerData } from 'node:worker_threads';
import { SlotChecker } from './check.ts';
import { Slots, WORD } from './slots.ts';

/** It leaves when it has not been asked for so long, in milliseconds. */
const IDLE_MS = 10_000;

const slots = new Slots(workerData as SharedArrayBuffer);
const checker = new SlotChecker(slots);

for (;;) {
  const asked = Atomics.load(slots.words, WORD.ASKED);
  if (checker.checkOne()) continue;
  if (Atomics.wait(slots.words, WORD.ASKED, asked, IDLE_MS) === 'timed-out') break;
}
Atomics.store(slots.words, WORD.LEFT, 1);
