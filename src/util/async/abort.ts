import { addAbortListener } from 'node:events';

/**
 * Settles as the promise does, or rejects with the signal's reason as soon as that fires. The work behind the
 * promise goes on; a failure that comes after the signal is ignored.
 */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  if (signal.aborted) {
    promise.catch(() => {});
    throw signal.reason;
  }
  const aborted = Promise.withResolvers<never>();
  const listener = addAbortListener(signal, () => aborted.reject(signal.reason));
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    listener[Symbol.dispose]();
  }
}
