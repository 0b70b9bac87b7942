import { setMaxListeners } from 'node:events';

/**
 * Runs `work` for each item, in order, so many at once. The first failure stops the rest by their signal and
 * is thrown when all have ended.
 */
export async function eachOf<T>(
  items: Iterable<T> | AsyncIterable<T>,
  atOnce: number,
  signal: AbortSignal | undefined,
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const abort = new AbortController();
  const either = signal ? AbortSignal.any([signal, abort.signal]) : abort.signal;
  // Everything that is under way listens to it.
  setMaxListeners(0, either);
  const running = new Set<Promise<void>>();
  let failure: { error: unknown } | undefined;
  const fail = (error: unknown) => {
    failure ??= { error };
    abort.abort();
  };
  try {
    for await (const item of items) {
      if (running.size >= atOnce) await Promise.race(running);
      either.throwIfAborted();
      const one: Promise<void> = work(item, either)
        .catch(fail)
        .finally(() => running.delete(one));
      running.add(one);
    }
  } catch (error) {
    fail(error);
  }
  await Promise.all(running);
  if (failure) throw failure.error;
}
