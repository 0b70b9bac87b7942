import { STORE_PATH_HASH_LENGTH } from '../nix/store-path.ts';
import type { Services } from '../store/services.ts';
import { peersAway } from '../util/async/outage.ts';

/** How long a thread that serves the kernel may take to say that it is there, in milliseconds. */
const RESPONSE_MS = 2000;
/** How long it is tried whether a store that is away has come back, in milliseconds. */
const PROBE_MS = 10_000;

const NOBODYS = new Uint8Array(STORE_PATH_HASH_LENGTH);

export interface Health {
  /** Degraded: what is here is served, but a store elsewhere is away. */
  readonly status: 'starting' | 'serving' | 'degraded' | 'not responding' | 'stopping';
  /** What is missing, for people. */
  readonly reason?: string;
}

/** Whether something is served, if not all. */
export function isServing({ status }: Health): boolean {
  return status === 'serving' || status === 'degraded';
}

/** In words, for people. */
export function wordsFor({ status, reason }: Health): string {
  return reason === undefined ? status : `${status}: ${reason}`;
}

/** What is asked to tell how a process is. */
export interface Examined {
  /** Whether all threads that serve say so within so many milliseconds. */
  responds?(withinMs: number): Promise<boolean>;
  /** Asks the stores that are elsewhere for something. */
  probe(signal: AbortSignal): Promise<unknown>;
}

/** A store that is served: it is asked for a path that nobody has. */
export function examinedStore({ pathInfos }: Pick<Services, 'pathInfos'>): Examined {
  return { probe: (signal) => pathInfos.get(NOBODYS, signal) };
}

/** Tells how a process is that serves something. */
export class HealthCheck {
  #examined: Examined | undefined;
  #isStopping = false;
  #probing: Promise<unknown> | undefined;

  /** From now on it serves. */
  begin(examined: Examined): void {
    this.#examined = examined;
  }

  stop(): void {
    this.#isStopping = true;
  }

  async now(): Promise<Health> {
    if (this.#isStopping) return { status: 'stopping' };
    if (!this.#examined) return { status: 'starting' };
    if ((await this.#examined.responds?.(RESPONSE_MS)) === false)
      return { status: 'not responding', reason: 'a thread that serves says nothing' };
    const away = peersAway();
    if (away.length === 0) return { status: 'serving' };
    this.#probe(this.#examined);
    return { status: 'degraded', reason: `away: ${away.join(', ')}` };
  }

  /** Nobody else may ask, as long as all that is wanted is here: then nobody would notice that a store is back. */
  #probe(examined: Examined): void {
    this.#probing ??= examined
      .probe(AbortSignal.timeout(PROBE_MS))
      .catch(() => {})
      .finally(() => {
        this.#probing = undefined;
      });
  }
}
