/** What an attempt is given. */
export interface Attempt {
  /** Fires when another one has succeeded. */
  readonly signal: AbortSignal;
  /** To be called when it goes so slowly that another one should be begun beside it. */
  readonly onSlow: () => void;
}

/**
 * Tries candidates in their order, the next when one has failed or goes slowly: then it goes on beside it, and the
 * first that succeeds ends the others. `undefined` when there are no candidates. Throws the first failure when all have
 * failed.
 */
export function hedged<T, R>(
  candidates: AsyncGenerator<T>,
  attempt: (candidate: T, options: Attempt) => Promise<R>,
): Promise<R | undefined> {
  const outcome = Promise.withResolvers<R | undefined>();
  const stop = new AbortController();
  const failures: unknown[] = [];
  let running = 0;
  let isAsking = false;
  let hasMore = true;

  const begin = (candidate: T) => {
    running++;
    let isReplaced = false;
    const replace = () => {
      if (isReplaced) return;
      isReplaced = true;
      void next();
    };
    attempt(candidate, { signal: stop.signal, onSlow: replace }).then(outcome.resolve, (error) => {
      running--;
      failures.push(error);
      replace();
      endWhenAllFailed();
    });
  };
  const next = async () => {
    if (isAsking || !hasMore || stop.signal.aborted) return;
    isAsking = true;
    try {
      const { value, done } = await candidates.next();
      hasMore = !done;
      if (!done && !stop.signal.aborted) begin(value);
    } catch (error) {
      hasMore = false;
      failures.push(error);
    }
    isAsking = false;
    endWhenAllFailed();
  };
  const endWhenAllFailed = () => {
    if (hasMore || running > 0) return;
    if (failures.length > 0) outcome.reject(failures[0]);
    else outcome.resolve(undefined);
  };
  void next();
  return outcome.promise.finally(() => stop.abort());
}
