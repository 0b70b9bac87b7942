import { AsyncLocalStorage } from 'node:async_hooks';

/** Hears that so many bytes have arrived. */
export type ArrivalListener = (bytes: number) => void;

const current = new AsyncLocalStorage<ArrivalListener>();

/**
 * Runs work whose bytes `listener` hears of as they arrive, long before they are whole messages or chunks: over a
 * slow line that is how something that comes is told from something that does not.
 */
export function watchArrivals<T>(listener: ArrivalListener, work: () => T): T {
  return current.run(listener, work);
}

/** For those who receive bytes: who is to hear of them. */
export function arrivalListener(): ArrivalListener | undefined {
  return current.getStore();
}

/** Tells of the parts of something that is being received, as they are handed on. */
export async function* tellingArrivals(parts: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const listener = arrivalListener();
  for await (const part of parts) {
    listener?.(part.length);
    yield part;
  }
}
