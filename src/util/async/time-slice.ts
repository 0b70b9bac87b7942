import { setImmediate as turn } from 'node:timers/promises';

/** Work goes on for so long, in milliseconds, before all else that waits has its turn. */
const SLICE_MS = 2;

/**
 * For long work that never has to wait: what a local store gives and a fast client takes at once would keep
 * everybody else out until it is done.
 */
export class TimeSlice {
  #begun = performance.now();

  /** Whether it is time to `pass`. */
  get isOver(): boolean {
    return performance.now() - this.#begun > SLICE_MS;
  }

  /** Lets the event loop go round. */
  async pass(): Promise<void> {
    await turn();
    this.#begun = performance.now();
  }
}
