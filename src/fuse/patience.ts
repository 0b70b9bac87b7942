import { availableParallelism } from 'node:os';

/** Requests no further apart than this, in milliseconds, come one upon the other. */
const HOT_MS = 0.5;
/** How long to wait for the next of them without sleeping. A single processor is better left to others. */
const SPIN_MS = availableParallelism() > 1 ? 0.15 : 0;

/**
 * When not to sleep yet: while requests come one upon the other, the next is likely to come before a sleeping
 * thread could be woken, which takes 70 us where processors idle deeply. Then asking again at once is cheaper
 * for whoever waits.
 */
export class Patience {
  /** When the last request came, in milliseconds, and whether it came soon after the one before. */
  #last = 0;
  #hot = false;

  /** Notes that a request has come. */
  renew(): void {
    const now = performance.now();
    this.#hot = SPIN_MS > 0 && now - this.#last < HOT_MS;
    this.#last = now;
  }

  /** Whether to ask again before sleeping. */
  lasts(): boolean {
    if (!this.#hot) return false;
    this.#hot = performance.now() - this.#last < SPIN_MS;
    return this.#hot;
  }
}
