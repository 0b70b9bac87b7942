import type { Deferred } from './deferred.ts';
import { deferred } from './deferred.ts';
import { orAborted } from './single-flight.ts';

/** Lets only so many pieces of work run at once; the others wait for their turn. */
export class Limiter {
  #free: number;
  readonly #waiting: Deferred[] = [];

  constructor(most: number) {
    this.#free = most;
  }

  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await this.#turn(signal);
    try {
      return await work();
    } finally {
      this.#pass();
    }
  }

  async #turn(signal: AbortSignal | undefined): Promise<void> {
    const turn = deferred();
    this.#waiting.push(turn);
    try {
      await (signal ? orAborted(turn.promise, signal) : turn.promise);
    } catch (error) {
      const at = this.#waiting.indexOf(turn);
      if (at >= 0) this.#waiting.splice(at, 1);
      else this.#pass();
      throw error;
    }
  }

  #pass(): void {
    const next = this.#waiting.shift();
    if (next) next.resolve();
    else this.#free++;
  }
}

/**
 * The results of `work` in the order of the source, of which up to `most` are worked on at once. `work` is begun
 * before the next is asked of the source. When something fails, what was begun is waited for.
 */
export async function* mapAhead<T, R>(
  source: AsyncIterable<T> | Iterable<T>,
  most: number,
  work: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const begun: Promise<R>[] = [];
  try {
    for await (const item of source) {
      const result = work(item);
      // It is looked at in its turn.
      result.catch(() => {});
      begun.push(result);
      if (begun.length >= most) yield await begun.shift()!;
    }
    while (begun.length > 0) yield await begun.shift()!;
  } finally {
    await Promise.allSettled(begun);
  }
}

/** What any of the sources gives, as it comes. */
export async function* merged<T>(sources: readonly AsyncIterable<T>[]): AsyncGenerator<T> {
  const next = async (from: AsyncIterator<T>) => ({ from, result: await from.next() });
  const coming = new Map<AsyncIterator<T>, ReturnType<typeof next>>();
  for (const source of sources) {
    const from = source[Symbol.asyncIterator]();
    coming.set(from, next(from));
  }
  try {
    while (coming.size > 0) {
      const { from, result } = await Promise.race(coming.values());
      if (result.done) {
        coming.delete(from);
      } else {
        coming.set(from, next(from));
        yield result.value;
      }
    }
  } finally {
    await Promise.allSettled([...coming.keys()].map((from) => from.return?.()));
  }
}

/** All that a source gives. */
export async function gathered<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of source) items.push(item);
  return items;
}
