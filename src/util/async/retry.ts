import { setTimeout as delay } from 'node:timers/promises';
import { messageOf, StoreError } from '../errors.ts';
import { orAborted } from './abort.ts';

/** How long peers are waited for. */
export interface Patience {
  /**
   * What can be repeated is tried again until nothing has come for so long, in milliseconds. With Infinity, for as
   * long as whoever asked waits.
   */
  readonly awayMs: number;
  /**
   * A peer that has never answered is given up after so long, in milliseconds, and what cannot be connected to at
   * once: its address is probably wrong. Without it, it has the time of one that was there before.
   */
  readonly firstAnswerMs?: number | undefined;
}

/** For whoever has not said, and for servers: whoever asks those may have somebody else to ask. */
export const DEFAULT_PATIENCE: Patience = { awayMs: 3000 };

export interface RetryOptions {
  /** See `Patience`. */
  readonly awayMs: number;
  /** Whether trying again may help, when it has failed for so long, in milliseconds. */
  readonly isTransient: (error: unknown, sinceMs: number) => boolean;
  /** Told of every failure that may pass, and for how long it has failed, in milliseconds; also of the last. */
  readonly onFailure?: (error: unknown, sinceMs: number) => void;
  readonly signal?: AbortSignal | undefined;
}

const FIRST_WAIT_MS = 50;
const MAX_WAIT_MS = 1000;

/** The tries of one piece of work: waits between them, and an end to them. */
export class Retries {
  readonly #options: RetryOptions;
  #since = performance.now();
  #waitMs = FIRST_WAIT_MS;
  #failure: unknown;

  constructor(options: RetryOptions) {
    this.#options = options;
  }

  /** Something has come: from here on it is as if nothing had failed. */
  progress(): void {
    this.#since = performance.now();
    this.#waitMs = FIRST_WAIT_MS;
    this.#failure = undefined;
  }

  /**
   * Waits until it is time to try again after a failure: `waitMs` milliseconds, or longer each time. Throws the failure
   * when that would not help or has lasted too long, and the reason of the signal once that has fired.
   */
  async after(failure: unknown, waitMs?: number): Promise<void> {
    const { awayMs, isTransient, onFailure, signal } = this.#options;
    if (signal?.aborted) throw explained(signal.reason, this.#failure);
    const sinceMs = performance.now() - this.#since;
    if (!isTransient(failure, sinceMs)) throw failure;
    onFailure?.(failure, sinceMs);
    const jittered = waitMs ?? this.#waitMs * (0.5 + Math.random());
    if (sinceMs >= awayMs || (waitMs !== undefined && sinceMs + waitMs > awayMs)) throw failure;
    this.#waitMs = Math.min(this.#waitMs * 2, MAX_WAIT_MS);
    this.#failure = failure;
    const wait = Math.min(jittered, awayMs - sinceMs);
    const timer = new AbortController();
    try {
      await orAborted(delay(wait, undefined, { signal: timer.signal }), signal);
    } catch (reason) {
      throw explained(reason, failure);
    } finally {
      timer.abort();
    }
  }
}

/** Why whoever asked waits no longer, and in vain for what, when that was because nothing came. */
function explained(reason: unknown, failure: unknown): unknown {
  if (failure === undefined || failure === reason) return reason;
  if (!(reason instanceof StoreError) || reason.code !== 'DEADLINE_EXCEEDED') return reason;
  return new StoreError(reason.code, `${reason.message}: ${messageOf(failure)}`, { cause: failure });
}

/** Tries something again while it fails for a reason that may pass; not at all once the signal has fired. */
export async function retrying<T>(options: RetryOptions, attempt: () => Promise<T>): Promise<T> {
  const retries = new Retries(options);
  for (;;) {
    options.signal?.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      await retries.after(error);
    }
  }
}

/**
 * Hands on what `begin` gives, and has it begun again when it breaks for a reason that may pass. Then `begin` leaves out
 * what has come before.
 */
export async function* resuming<T>(options: RetryOptions, begin: () => AsyncIterable<T>): AsyncGenerator<T> {
  const retries = new Retries(options);
  for (;;) {
    options.signal?.throwIfAborted();
    try {
      for await (const item of begin()) {
        retries.progress();
        yield item;
      }
      return;
    } catch (error) {
      await retries.after(error);
    }
  }
}
