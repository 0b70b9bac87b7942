import { setTimeout as delay } from 'node:timers/promises';
import { orAborted } from './abort.ts';

export interface RetryOptions {
  /** How often it is tried in all. */
  readonly attempts: number;
  /** Wait before the second try, in milliseconds; it doubles from then on. */
  readonly firstWaitMs: number;
  /** Whether trying again may help. */
  readonly isTransient: (error: unknown) => boolean;
}

/**
 * Tries something again, after growing waits, while it fails for a reason that may pass; not at all once the signal
 * has fired.
 */
export async function retrying<T>(
  { attempts, firstWaitMs, isTransient }: RetryOptions,
  signal: AbortSignal | undefined,
  attempt: () => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    signal?.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      if (tries >= attempts || signal?.aborted || !isTransient(error)) throw error;
      await orAborted(delay(firstWaitMs * 2 ** (tries - 1) * (0.5 + Math.random())), signal);
    }
  }
}
