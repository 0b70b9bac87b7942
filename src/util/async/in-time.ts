import { StoreError } from '../errors.ts';

/**
 * What a promise gives. Throws DEADLINE_EXCEEDED when that takes longer than so many milliseconds; the work goes on,
 * and nobody hears of it.
 */
export async function inTime<T>(work: Promise<T>, milliseconds: number): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new StoreError('DEADLINE_EXCEEDED', `no answer for ${milliseconds / 1000} s`)),
    milliseconds,
  );
  work.catch(() => {});
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
