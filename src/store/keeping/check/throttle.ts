import type { Pace } from './report.ts';

/** Rows, and milliseconds, after which others have their turn. */
const ROWS = 512;
const SLICE_MS = 100;

/** Keeps a job that does not wait for anything within a budget of time and a rate of bytes. */
export class Throttle {
  readonly #deadline: number;
  readonly #rate: number;
  #rows = 0;
  #bytes = 0;
  #begun = performance.now();

  constructor({ budgetMs = Number.POSITIVE_INFINITY, rate = Number.POSITIVE_INFINITY }: Pace) {
    this.#deadline = performance.now() + budgetMs;
    this.#rate = rate;
  }

  get isOver(): boolean {
    return performance.now() >= this.#deadline;
  }

  /** Counts a row; whether it is time to rest. */
  isDue(bytes: number): boolean {
    this.#rows++;
    this.#bytes += bytes;
    return (
      this.#rows >= ROWS ||
      this.#bytes >= (this.#rate * SLICE_MS) / 1000 ||
      performance.now() - this.#begun >= SLICE_MS
    );
  }

  /** Sleeps for as long as what was done should have taken, but not beyond the budget. */
  rest(): void {
    const until = Math.min(this.#begun + (this.#bytes / this.#rate) * 1000, this.#deadline);
    const ms = until - performance.now();
    if (ms > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    this.#rows = 0;
    this.#bytes = 0;
    this.#begun = performance.now();
  }
}
