import type { Code } from '../errors.ts';
import { StoreError } from '../errors.ts';

const AWAY: readonly Code[] = ['UNAVAILABLE', 'DEADLINE_EXCEEDED'];
/** A peer that answers that it has failed may do better soon, or never: it is asked for so long, in milliseconds. */
const FAILING_MS = 4000;

/** Whether a failure means that a peer is not there for now. */
export function isAway(error: unknown): boolean {
  return error instanceof StoreError && AWAY.includes(error.code);
}

/**
 * Whether something that only reads may do better soon, after it has failed for so long, in milliseconds: the peer is
 * away, or has too much to do, or has failed. Of a put, RESOURCE_EXHAUSTED may mean that there is no room for it.
 */
export function mayPass(error: unknown, sinceMs: number): boolean {
  if (!(error instanceof StoreError)) return false;
  if (error.code === 'INTERNAL') return sinceMs < FAILING_MS;
  return isAway(error) || error.code === 'RESOURCE_EXHAUSTED';
}
