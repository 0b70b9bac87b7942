import { StoreError } from '../util/errors.ts';
import { STOP_SIGNALS } from './stop-signals.ts';

/**
 * Does work that cleans up after itself when it is told to stop. After a signal of those that end a process it
 * is told so; when it has ended, the process ends of that signal.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  let received: NodeJS.Signals | undefined;
  const stop = (signal: NodeJS.Signals) => {
    received = signal;
    abort.abort(new StoreError('CANCELLED', 'interrupted'));
  };
  for (const signal of STOP_SIGNALS) process.once(signal, stop);
  try {
    return await work(abort.signal);
  } finally {
    for (const signal of STOP_SIGNALS) process.off(signal, stop);
    if (received) process.kill(process.pid, received);
  }
}
