import type { Share } from './holding.ts';

/** What clients wait for, each client's in order; the clients take turns. */
export class FairQueue<T> {
  /** A client goes to the end when it has had a turn. */
  readonly #waiting = new Map<Share, T[]>();

  get isEmpty(): boolean {
    return this.#waiting.size === 0;
  }

  add(share: Share, item: T): void {
    const items = this.#waiting.get(share);
    if (items) items.push(item);
    else this.#waiting.set(share, [item]);
  }

  next(): T | undefined {
    const [first] = this.#waiting;
    if (!first) return undefined;
    const [share, items] = first;
    const item = items.shift();
    this.#waiting.delete(share);
    if (items.length > 0) this.#waiting.set(share, items);
    return item;
  }
}
