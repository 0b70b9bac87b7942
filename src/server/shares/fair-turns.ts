import { FairQueue } from './fair-queue.ts';
import type { Share } from './holding.ts';

/** Pieces of work that may begin between two looks at what else has happened, and for how long, in milliseconds. */
const AT_ONCE = 32;
const SLICE_MS = 10;

/** Lets the clients' pieces of work begin in turn, each client's in order, with time for everything else in between. */
export class FairTurns {
  readonly #waiting = new FairQueue<() => void>();
  #begun = 0;
  #until = 0;
  #isScheduled = false;

  /** Resolves when a piece of work may begin; `undefined` when it may at once. */
  take(share: Share): Promise<void> | undefined {
    if (this.#waiting.isEmpty && this.#begun < AT_ONCE) {
      this.#begun++;
      this.#schedule();
      return undefined;
    }
    return new Promise((resolve) => {
      this.#waiting.add(share, resolve);
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#round());
  }

  /** What begins runs between these: each has its own turn of the event loop's phase. */
  #round(): void {
    this.#isScheduled = false;
    this.#begun = 0;
    if (this.#waiting.isEmpty) return;
    this.#until = performance.now() + SLICE_MS;
    this.#next();
    for (let i = 1; i < AT_ONCE; i++) setImmediate(() => performance.now() < this.#until && this.#next());
    this.#schedule();
  }

  #next(): void {
    const begin = this.#waiting.next();
    if (!begin) return;
    this.#begun++;
    begin();
  }
}
