/**
 * Many callers, one piece of work: calls with the same key while one is running share its outcome. Each
 * caller may leave by its own signal; the work's signal fires when the last one has left.
 */
export class SingleFlight<T> {
  readonly #running = new Map<string, { promise: Promise<T>; callers: number; abort: AbortController }>();

  async run(key: string, work: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    let flight = this.#running.get(key);
    if (!flight) {
      const abort = new AbortController();
      const promise = work(abort.signal).finally(() => {
        if (this.#running.get(key)?.promise === promise) this.#running.delete(key);
      });
      flight = { promise, callers: 0, abort };
      this.#running.set(key, flight);
    }
    flight.callers++;
    try {
      return await (signal ? orAborted(flight.promise, signal) : flight.promise);
    } finally {
      if (--flight.callers === 0) {
        flight.abort.abort();
        // Somebody who comes now must not join work that has just been told to stop.
        if (this.#running.get(key) === flight) this.#running.delete(key);
      }
    }
  }
}

/** A promise that also settles, by rejecting, when the signal fires. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    promise.catch(() => {});
    return Promise.reject(signal.reason);
  }
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason);
    signal.addEventListener('abort', leave, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
  });
}
