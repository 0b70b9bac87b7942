import { FairQueue } from './fair-queue.ts';
import type { Share } from './holding.ts';

/** Lets at most so much long work go on at once, and the clients take turns. */
export class FairLimiter {
  readonly #waiting = new FairQueue<() => void>();
  #free: number;

  constructor(most: number) {
    this.#free = most;
  }

  /** Throws the signal's reason when that has fired before it begins. */
  async run<T>(share: Share, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.add(share, resolve));
    try {
      signal.throwIfAborted();
      return await work();
    } finally {
      const next = this.#waiting.next();
      if (next) next();
      else this.#free++;
    }
  }
}
