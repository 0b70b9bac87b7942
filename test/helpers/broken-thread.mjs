// Preloaded into a program of ours (NODE_OPTIONS=--import): makes the thread that serves the kernel fail, at the next
// request after FAULT_FILE has been made, out of a place where nobody can catch that.
import { unlinkSync } from 'node:fs';
import { isMainThread, workerData } from 'node:worker_threads';

if (!isMainThread && workerData?.transport) {
  const { load } = Atomics;
  // Of several threads, one removes it.
  Atomics.load = (...args) => {
    let isDue = true;
    try {
      unlinkSync(process.env.FAULT_FILE);
    } catch {
      isDue = false;
    }
    if (isDue) throw new Error('thrown by the test in a serving thread');
    return load(...args);
  };
}
