import { setImmediate as turn } from 'node:timers/promises';

/** The event loop gets its turn after so long, in milliseconds: signals are heard there. */
const TURN_MS = 20;

/** For work that seldom has to wait for anything: gives the event loop its turn from time to time. */
export class Turns {
  readonly #signal: AbortSignal | undefined;
  #next = Date.now() + TURN_MS;

  constructor(signal: AbortSignal | undefined) {
    this.#signal = signal;
  }

  /** Whether it is time to. Cheap enough to ask for everything that is done. */
  isDue(): boolean {
    return Date.now() >= this.#next;
  }

  /** Throws when the signal has fired. */
  async take(): Promise<void> {
    await turn();
    this.#signal?.throwIfAborted();
    this.#next = Date.now() + TURN_MS;
  }
}
