import { availableParallelism } from 'node:os';

const PROCESSORS = availableParallelism();

/** Requests no further apart than this, in milliseconds, come in quick succession. */
const HOT_MS = 0.5;
/** Whoever has sent something is taken to be at work for so long, in milliseconds. */
const AT_WORK_MS = 5;

/**
 * Decides whether to sleep yet: while requests come in quick succession, the next is likely to come before a sleeping
 * thread could be woken, which takes 70 us where processors idle deeply. Then asking again at once is cheaper
 * for whoever waits.
 */
export class Patience {
  /** When the last request came, in milliseconds, and whether it came soon after the one before. */
  #last = 0;
  #hot = false;
  /** When the fetch side sent something, where that matters, in milliseconds. */
  #fetched = Number.NEGATIVE_INFINITY;
  readonly #spinMs: number;

  /** `spinMs`: how long to wait for the next request without sleeping, in milliseconds. */
  constructor(spinMs: number) {
    // A single processor is better left to others.
    this.#spinMs = PROCESSORS > 1 ? spinMs : 0;
  }

  /** Notes that a request has come; gives when, by `performance.now()`. */
  renew(): number {
    const now = performance.now();
    this.#hot = this.#spinMs > 0 && now - this.#last < HOT_MS;
    this.#last = now;
    return now;
  }

  /** Notes that the fetch side has sent something. It and whoever reads take two processors by themselves. */
  noteFetched(): void {
    if (PROCESSORS <= 2) this.#fetched = performance.now();
  }

  /** Whether to ask again before sleeping. */
  lasts(): boolean {
    if (!this.#hot) return false;
    const now = performance.now();
    this.#hot = now - this.#last < this.#spinMs && now - this.#fetched > AT_WORK_MS;
    return this.#hot;
  }
}
