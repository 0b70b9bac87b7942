import { setTimeout as delay } from 'node:timers/promises';

/** Keeps those who share it, together, below so many bytes a second. */
export class Rate {
  readonly #bytesPerMs: number;
  /** When all that was taken so far has had its time. */
  #free = performance.now();

  constructor(bytesPerSecond: number) {
    this.#bytesPerMs = bytesPerSecond / 1000;
  }

  /** Resolves when it is the turn of so many bytes, in the order of the calls. Throws the signal's reason. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    const now = performance.now();
    const wait = this.#free - now;
    this.#free = Math.max(this.#free, now) + bytes / this.#bytesPerMs;
    if (wait > 0)
      await delay(wait, undefined, signal ? { signal } : {}).catch(() => signal?.throwIfAborted());
    signal?.throwIfAborted();
  }
}
