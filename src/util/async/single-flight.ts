import { orAborted } from './abort.ts';
import type { ArrivalListener } from './arrivals.ts';
import { arrivalListener, watchArrivals } from './arrivals.ts';

interface Flight<T> {
  readonly promise: Promise<T>;
  readonly abort: AbortController;
  /** Those who wait, and want to hear of what arrives meanwhile. */
  readonly listeners: Set<ArrivalListener>;
  callers: number;
  ended: boolean;
}

/**
 * Many callers, one piece of work: calls with the same key while one is running share its outcome. Each
 * caller may leave by its own signal; the work's signal fires when the last one has left. All of them hear of
 * what arrives for it (`watchArrivals`).
 */
export class SingleFlight<T> {
  readonly #running = new Map<string, Flight<T>>();

  async run(key: string, work: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const flight = this.#running.get(key) ?? this.#begin(key, work);
    flight.callers++;
    const listener = arrivalListener();
    // Of its own: one who waits twice leaves twice.
    const own = listener && ((bytes: number) => listener(bytes));
    if (own) flight.listeners.add(own);
    try {
      return await orAborted(flight.promise, signal);
    } finally {
      if (own) flight.listeners.delete(own);
      if (--flight.callers === 0 && !flight.ended) {
        flight.abort.abort();
        // Somebody who comes now must not join work that has just been told to stop.
        if (this.#running.get(key) === flight) this.#running.delete(key);
      }
    }
  }

  has(key: string): boolean {
    return this.#running.has(key);
  }

  /** Has what is running under a key go on to its end, also when all callers have left. */
  keep(key: string): void {
    const flight = this.#running.get(key);
    if (flight) flight.callers++;
  }

  #begin(key: string, work: (signal: AbortSignal) => Promise<T>): Flight<T> {
    const abort = new AbortController();
    const listeners = new Set<ArrivalListener>();
    const tell = (bytes: number) => {
      for (const listener of listeners) listener(bytes);
    };
    const promise = watchArrivals(tell, () => work(abort.signal)).finally(() => {
      flight.ended = true;
      if (this.#running.get(key) === flight) this.#running.delete(key);
    });
    const flight: Flight<T> = { promise, callers: 0, abort, listeners, ended: false };
    this.#running.set(key, flight);
    return flight;
  }
}
