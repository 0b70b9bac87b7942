import { availableParallelism } from 'node:os';

/** Requests no further apart than this, in milliseconds, come in quick succession. */
const HOT_MS = 0.5;

/**
 * Decides whether to sleep yet: while requests come in quick succession, the next is likely to come before a sleeping
 * thread could be woken, which takes 70 us where processors idle deeply. Then asking again at once is cheaper
 * for whoever waits.
 */
export class Patience {
  /** When the last request came, in milliseconds, and whether it came soon after the one before. */
  #last = 0;
  #hot = false;
  readonly #spinMs: number;

  /** `spinMs`: how long to wait for the next request without sleeping, in milliseconds. */
  constructor(spinMs: number) {
    // A single processor is better left to others.
    this.#spinMs = availableParallelism() > 1 ? spinMs : 0;
  }

  /** Notes that a request has come; gives when, by `performance.now()`. */
  renew(): number {
    const now = performance.now();
    this.#hot = this.#spinMs > 0 && now - this.#last < HOT_MS;
    this.#last = now;
    return now;
  }

  /** Whether to ask again before sleeping. */
  lasts(): boolean {
    if (!this.#hot) return false;
    this.#hot = performance.now() - this.#last < this.#spinMs;
    return this.#hot;
  }
}
