import { StoreError } from '../../util/errors.ts';

/** Turns NOT_FOUND into `undefined`. */
export async function foundOrNot<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof StoreError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}
