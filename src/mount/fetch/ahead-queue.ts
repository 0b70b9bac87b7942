import { watchArrivals } from '../../util/async/arrivals.ts';

/** Bytes that are fetched at once and for which nobody waits: many small files may come in one call. */
const AT_ONCE = 2 << 20;
/** What a fetch takes besides, in bytes. */
const OVERHEAD = 4096;

interface Ahead {
  readonly size: number;
  readonly fetch: () => Promise<void>;
}

/** Fetches ahead of readers, some at a time, in the order in which it was thought of. */
export class AheadQueue {
  readonly #mayGoOn: () => boolean;
  readonly #queue: Ahead[] = [];
  #running = 0;

  /** `mayGoOn` tells whether there is room for more. */
  constructor(mayGoOn: () => boolean) {
    this.#mayGoOn = mayGoOn;
  }

  /** `size`: of what is fetched, in bytes. */
  add(size: number, fetch: () => Promise<void>): void {
    this.#queue.push({ size: size + OVERHEAD, fetch });
    this.#pump();
  }

  #pump(): void {
    while (this.#running < AT_ONCE && this.#queue.length > 0 && this.#mayGoOn()) {
      const { size, fetch } = this.#queue.shift()!;
      this.#running += size;
      // What comes is no progress for the reader in whose turn it was begun.
      watchArrivals(() => {}, fetch)
        // Whoever needs it will ask again, and hear why it cannot be had.
        .catch(() => {})
        .finally(() => {
          this.#running -= size;
          // One by one, they would come in calls of their own.
          if (this.#running <= AT_ONCE / 2) this.#pump();
        });
    }
  }
}
