import { setTimeout as delay } from 'node:timers/promises';

/** An answer of one of those that were asked. */
export interface Finding<T> {
  readonly value: T;
  /** Lower is better. */
  readonly priority: number;
}

/** One who was asked. */
export interface Asked<T> {
  readonly answer: Promise<Finding<T> | undefined>;
  /** Whether an answer is worth waiting for when another has found something. */
  readonly isPrompt: boolean;
}

/**
 * Yields the findings of all that were asked at the same time, the best first: once one has found something, the
 * prompt ones have `patienceMs` milliseconds to find something better. Throws the failure of one of them if nobody
 * found anything.
 */
export async function* bestFirst<T>(asked: readonly Asked<T>[], patienceMs: number): AsyncGenerator<T> {
  const found: Finding<T>[] = [];
  const failures: unknown[] = [];
  const answers = asked.map(({ answer }) =>
    answer.then(
      (finding) => finding && found.push(finding),
      (error) => failures.push(error),
    ),
  );
  const all = Promise.all(answers);
  const something = Promise.any(asked.map(async ({ answer }) => (await answer) ?? Promise.reject()));
  await Promise.race([all, something.catch(() => all)]);
  const prompt = Promise.all(answers.filter((_, i) => asked[i]!.isPrompt));
  const stop = new AbortController();
  await Promise.race([prompt, delay(patienceMs, undefined, { signal: stop.signal }).catch(() => {})]);
  stop.abort();
  let isEmpty = true;
  for (const waited of [false, true]) {
    if (waited) await all;
    while (found.length > 0) {
      isEmpty = false;
      found.sort((a, b) => b.priority - a.priority);
      yield found.pop()!.value;
    }
  }
  if (isEmpty && failures.length > 0) throw failures[0];
}
