import { messageOf } from '../errors.ts';
import { log } from '../log.ts';

/** What lasts no longer is not told of, in milliseconds. */
const TOLD_AFTER_MS = 3000;

/** Those that last, as far as somebody still has them: a store that is closed meanwhile does not tell. */
const lasting = new Set<WeakRef<Outage>>();

/** The peers that are away now, as the last request to each has found it. */
export function peersAway(): string[] {
  return [...new Set([...lasting].flatMap((one) => one.deref()?.peer ?? []))].sort();
}

/** Tells the log when a peer is away for long, and when it is back: whoever waits for it should know why. */
export class Outage {
  readonly peer: string;
  readonly #self = new WeakRef(this);
  #told = false;

  /** `peer`: its address, for people. */
  constructor(peer: string) {
    this.peer = peer;
  }

  /** A request has failed for so long, in milliseconds, and is tried again. */
  readonly failed = (error: unknown, sinceMs: number): void => {
    if (this.#told || sinceMs < TOLD_AFTER_MS) return;
    this.#told = true;
    for (const one of lasting) if (!one.deref()) lasting.delete(one);
    lasting.add(this.#self);
    log.warn('the store is away; trying again', { store: this.peer, error: messageOf(error) });
  };

  /** A request has been answered. */
  answered(): void {
    if (!this.#told) return;
    this.#told = false;
    lasting.delete(this.#self);
    log.info('the store is back', { store: this.peer });
  }
}
