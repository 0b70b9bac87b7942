import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ResourceLimits } from 'node:worker_threads';
import { Worker } from 'node:worker_threads';

/**
 * Starts the program of a thread, `name` beside the module at `base`. It is always the built one: code that
 * runs from its sources, as in tests, has no other.
 */
export function startThread(
  base: string,
  name: string,
  workerData: unknown,
  resourceLimits?: ResourceLimits,
): Worker {
  const beside = new URL(name, base);
  const file = existsSync(fileURLToPath(beside)) ? beside : new URL(beside.href.replace('/src/', '/dist/'));
  return new Worker(file, { workerData, ...(resourceLimits ? { resourceLimits } : {}) });
}
