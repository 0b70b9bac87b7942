import { orAborted } from './abort.ts';

/** Lets at most so many calls of `run` work at once, whoever makes them; the others wait in order. */
export class Limiter {
  #free: number;
  readonly #waiting: PromiseWithResolvers<void>[] = [];

  constructor(most: number) {
    this.#free = most;
  }

  /** Throws the signal's reason when that fires while this waits. */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await this.#turn(signal);
    try {
      return await work();
    } finally {
      this.#pass();
    }
  }

  async #turn(signal: AbortSignal | undefined): Promise<void> {
    const turn = Promise.withResolvers<void>();
    this.#waiting.push(turn);
    try {
      await orAborted(turn.promise, signal);
    } catch (error) {
      const at = this.#waiting.indexOf(turn);
      if (at >= 0) this.#waiting.splice(at, 1);
      else this.#pass();
      throw error;
    }
  }

  #pass(): void {
    const next = this.#waiting.shift();
    if (next) next.resolve();
    else this.#free++;
  }
}
