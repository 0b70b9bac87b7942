import { messageOf } from '../errors.ts';
import { log } from '../log.ts';

/** What lasts no longer is not told of, in milliseconds. */
const TOLD_AFTER_MS = 3000;

/** Tells the log when a peer is away for long, and when it is back: whoever waits for it should know why. */
export class Outage {
  readonly #peer: string;
  #told = false;

  /** `peer`: its address, for people. */
  constructor(peer: string) {
    this.#peer = peer;
  }

  /** A request has failed for so long, in milliseconds, and is tried again. */
  readonly failed = (error: unknown, sinceMs: number): void => {
    if (this.#told || sinceMs < TOLD_AFTER_MS) return;
    this.#told = true;
    log.warn('the store is away; trying again', { store: this.#peer, error: messageOf(error) });
  };

  /** A request has been answered. */
  answered(): void {
    if (!this.#told) return;
    this.#told = false;
    log.info('the store is back', { store: this.#peer });
  }
}
