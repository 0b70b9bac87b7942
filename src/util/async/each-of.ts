import { setMaxListeners } from 'node:events';
import { InFlight } from './in-flight.ts';

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
  const stop = new AbortController();
  const either = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  // Everything that is under way listens to it.
  setMaxListeners(0, either);
  const inFlight = new InFlight(atOnce, () => stop.abort());
  try {
    for await (const item of items) {
      await inFlight.room();
      either.throwIfAborted();
      inFlight.add(work(item, either));
    }
  } catch (error) {
    inFlight.fail(error);
  }
  await inFlight.ended();
  inFlight.check();
}
