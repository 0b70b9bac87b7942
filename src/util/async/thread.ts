import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ResourceLimits } from 'node:worker_threads';
import { Worker } from 'node:worker_threads';
import { StoreError } from '../errors.ts';

/** A thread that has changed nothing in so many waits, of so many milliseconds each, has died or never begins. */
const WAITS = 60;
const WAIT_MS = 1000;

/**
 * Waits until another thread has changed a word that was `value`. Throws INTERNAL when it does not: nobody tells a
 * thread that waits what has become of the other.
 */
export function awaitChange(words: Int32Array, index: number, value: number): void {
  for (let waits = 1; Atomics.wait(words, index, value, WAIT_MS) === 'timed-out'; waits++) {
    if (waits >= WAITS) throw new StoreError('INTERNAL', 'a thread of this program has stopped working');
  }
}

let canStart = true;

/** From now on no thread can be started: its program is hidden, or lies in what this process itself serves. */
export function doWithoutThreads(): void {
  canStart = false;
}

/** Whether threads can be started. Who can do without asks first. */
export function canStartThreads(): boolean {
  return canStart;
}

/**
 * Starts the program of a thread, `name` beside the module at `base`. It is always the built one: code that
 * runs from its sources, as in tests, has no other. Throws UNIMPLEMENTED where none can be started.
 */
export function startThread(
  base: string,
  name: string,
  workerData: unknown,
  resourceLimits?: ResourceLimits,
): Worker {
  if (!canStart)
    throw new StoreError('UNIMPLEMENTED', 'this needs a thread, whose program is hidden by the mount');
  const beside = new URL(name, base);
  const file = existsSync(fileURLToPath(beside)) ? beside : new URL(beside.href.replace('/src/', '/dist/'));
  return new Worker(file, { workerData, ...(resourceLimits ? { resourceLimits } : {}) });
}
