import { watchArrivals } from '../../util/async/arrivals.ts';

/** Fetches under way at once for which nobody waits. */
const AT_ONCE = 8;

/** Fetches ahead of readers, some at a time, in the order in which it was thought of. */
export class AheadQueue {
  readonly #mayGoOn: () => boolean;
  readonly #queue: (() => Promise<void>)[] = [];
  #running = 0;

  /** `mayGoOn` tells whether there is room for more. */
  constructor(mayGoOn: () => boolean) {
    this.#mayGoOn = mayGoOn;
  }

  add(fetch: () => Promise<void>): void {
    this.#queue.push(fetch);
    this.#pump();
  }

  #pump(): void {
    while (this.#running < AT_ONCE && this.#queue.length > 0 && this.#mayGoOn()) {
      this.#running++;
      // What comes is no progress for the reader in whose turn it was begun.
      watchArrivals(() => {}, this.#queue.shift()!)
        // Whoever needs it will ask again, and hear why it cannot be had.
        .catch(() => {})
        .finally(() => {
          this.#running--;
          this.#pump();
        });
    }
  }
}
