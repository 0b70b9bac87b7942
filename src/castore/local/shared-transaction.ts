/** Pieces of work in one transaction; each writes a row or two of up to 64 KiB. */
const MOST_AT_ONCE = 64;

interface Piece {
  readonly work: () => unknown;
  readonly done: PromiseWithResolvers<unknown>;
}

/** Lets small pieces of work that come in the same moment share a transaction. */
export class SharedTransaction {
  readonly #transaction: (work: () => unknown[]) => unknown[];
  #waiting: Piece[] = [];

  constructor(transaction: (work: () => unknown[]) => unknown[]) {
    this.#transaction = transaction;
  }

  /** Resolves with what `work` gives, once it has been committed. It must not throw. */
  run<T>(work: () => T): Promise<T> {
    if (this.#waiting.length === 0) setImmediate(() => this.#runAll());
    const done = Promise.withResolvers<unknown>();
    this.#waiting.push({ work, done });
    return done.promise as Promise<T>;
  }

  #runAll(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (let next = 0; next < waiting.length; next += MOST_AT_ONCE) {
      const pieces = waiting.slice(next, next + MOST_AT_ONCE);
      try {
        const results = this.#transaction(() => pieces.map(({ work }) => work()));
        for (const [i, { done }] of pieces.entries()) done.resolve(results[i]);
      } catch (error) {
        for (const { done } of pieces) done.reject(error);
      }
    }
  }
}
