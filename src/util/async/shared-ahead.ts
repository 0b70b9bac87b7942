import { mapAhead } from './iterables.ts';

/**
 * Shares out what is worked on ahead among all who do so at the same time: together they hold at most so many things, and
 * when that is reached, each has one under way. What has been done counts until whoever asked for it asks for the next.
 */
export class SharedAhead {
  readonly #most: number;
  #count = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** As `mapAhead`; `most` for one alone. */
  async *map<T, R>(
    source: AsyncIterable<T> | Iterable<T>,
    most: number,
    work: (item: T) => Promise<R>,
  ): AsyncGenerator<R> {
    let mine = 0;
    const begin = (item: T) => {
      mine++;
      this.#count++;
      return work(item);
    };
    try {
      for await (const result of mapAhead(source, () => (this.#count < this.#most ? most : 1), begin)) {
        yield result;
        mine--;
        this.#count--;
      }
    } finally {
      this.#count -= mine;
    }
  }
}
