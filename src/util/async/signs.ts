/** Whoever works for another gives a sign of life this often, in milliseconds: well within what others take for silence. */
export const SIGN_MS = 15_000;

/** Hands on what comes, and meanwhile, whenever nothing does for `everyMs` milliseconds, a sign of life. */
export async function* withSigns<T>(
  source: AsyncIterable<T> | Iterable<T>,
  sign: T,
  everyMs: number = SIGN_MS,
): AsyncGenerator<T> {
  const items = iterate(source);
  let isWaiting = false;
  try {
    for (;;) {
      isWaiting = true;
      const next = items.next().finally(() => {
        isWaiting = false;
      });
      let result = await orLate(next, everyMs);
      for (; result === undefined; result = await orLate(next, everyMs)) yield sign;
      if (result.done) return;
      yield result.value;
    }
  } finally {
    // What does not come is not waited for.
    const left = items.return(undefined).catch(() => {});
    if (!isWaiting) await left;
  }
}

async function* iterate<T>(source: AsyncIterable<T> | Iterable<T>): AsyncGenerator<T> {
  yield* source;
}

/** What comes, or `undefined` when that takes longer. */
async function orLate<T>(coming: Promise<T>, milliseconds: number): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => late.resolve(undefined), milliseconds);
  try {
    return await Promise.race([coming, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
