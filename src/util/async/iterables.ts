/**
 * Yields the results of `work` in the order of the source; up to `most` items are worked on at once, which may change. `work`
 * begins before the next item is asked of the source. When something fails, or the caller stops early, the work that has
 * begun is waited for.
 */
export async function* mapAhead<T, R>(
  source: AsyncIterable<T> | Iterable<T>,
  most: number | (() => number),
  work: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const limit = typeof most === 'number' ? () => most : most;
  const begun: Promise<R>[] = [];
  try {
    for await (const item of source) {
      const result = work(item);
      // A failure is thrown when its turn comes.
      result.catch(() => {});
      begun.push(result);
      while (begun.length >= limit()) yield await begun.shift()!;
    }
    while (begun.length > 0) yield await begun.shift()!;
  } finally {
    await Promise.allSettled(begun);
  }
}

/** Yields the items of all sources in the order in which they arrive. */
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

/** The first bytes of a stream, at least so many if it has them, and the whole stream. */
export async function beginOf(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  least: number,
): Promise<[begin: Buffer, whole: AsyncIterable<Uint8Array>]> {
  const parts = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  const first: Uint8Array[] = [];
  for (let length = 0; length < least; ) {
    const { value, done } = await parts.next();
    if (done) break;
    // A copy: the source may use its buffer again.
    first.push(Uint8Array.from(value));
    length += value.length;
  }
  const begin = Buffer.concat(first);
  const whole = async function* () {
    try {
      yield begin;
      for (let next = await parts.next(); !next.done; next = await parts.next()) yield next.value;
    } finally {
      await parts.return?.();
    }
  };
  return [begin, whole()];
}
