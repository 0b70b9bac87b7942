import { availableParallelism } from 'node:os';
import { canStartThreads, startThread } from '../../../util/async/thread.ts';
import { messageOf } from '../../../util/errors.ts';
import { log } from '../../../util/log.ts';

/** Starts the thread behind the slots in `memory`, where there is a processor for it. It leaves by itself. */
export function startAhead(memory: SharedArrayBuffer): void {
  if (availableParallelism() < 2 || !canStartThreads()) return;
  const thread = startThread(import.meta.url, './thread.js', memory);
  thread.on('error', (error) =>
    log.warn('the thread that hashes ahead has failed; readers do it themselves', {
      error: messageOf(error),
    }),
  );
  thread.unref();
}
