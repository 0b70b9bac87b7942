/** How often a pool that somebody waits for is looked at, and after how long without a byte it is silent, in milliseconds. */
const LOOK_MS = 500;
export const SILENT_MS = 2000;

/** Connections to one peer, which are used and given up together. */
export interface Pool {
  /** Bytes that have come through all of them. */
  readonly received: number;
  /** Lets go of them when what is under way has ended. */
  retire(): void;
  /** Breaks them: what is under way fails. */
  destroy(): void;
}

/** Finds out how long a pool has been silent. */
class Watched<P extends Pool> {
  readonly pool: P;
  #seen = 0;
  #since = performance.now();
  #waiting = 0;

  constructor(pool: P) {
    this.pool = pool;
  }

  /** Somebody waits from here on. As long as nobody did, there was nothing to be heard. */
  enter(): void {
    if (this.#waiting++ === 0) this.#since = performance.now();
  }

  leave(): void {
    this.#waiting--;
  }

  isSilent(forMs: number): boolean {
    const { received } = this.pool;
    if (received !== this.#seen) {
      this.#seen = received;
      this.#since = performance.now();
    }
    return performance.now() - this.#since >= forMs;
  }
}

export interface Wait<T, P> {
  /** What is asked over fresh connections when the pool is silent. */
  readonly again: (pool: P, signal: AbortSignal) => Promise<T>;
  /** After so long without a byte, in milliseconds. */
  readonly silentMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * A pool of connections that is replaced when it has gone silent, as after a suspension or behind a router that forgot
 * them: what is being waited for is asked again over fresh connections, beside it. If the answer comes from there, they
 * are the pool from then on.
 */
export class Pools<P extends Pool> {
  readonly #make: () => P;
  #current: Watched<P>;
  #fresh: Watched<P> | undefined;
  /** Those who wait for an answer of the fresh one. */
  #hopes = 0;

  constructor(make: () => P) {
    this.#make = make;
    this.#current = new Watched(make());
  }

  get pool(): P {
    return this.#current.pool;
  }

  /** Makes a request that may be made twice. Its signal says when it is no longer wanted. */
  async ask<T>(request: (pool: P, signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const first = new AbortController();
    const { pool } = this;
    const again = async (fresh: P, unwanted: AbortSignal) => {
      const answer = await request(fresh, unwanted);
      first.abort();
      return answer;
    };
    return this.wait(pool, request(pool, either(signal, first.signal)), { again, signal });
  }

  /** Waits for an answer that comes through a pool. Nobody hears any more of one that comes later than that of `again`. */
  async wait<T>(
    pool: P,
    answer: Promise<T>,
    { again, silentMs = SILENT_MS, signal }: Wait<T, P>,
  ): Promise<T> {
    const silent = this.#current.pool === pool ? this.#current : new Watched(pool);
    silent.enter();
    const fromFresh = Promise.withResolvers<T>();
    const second = new AbortController();
    let hopes = false;
    const look = () => {
      if (!silent.isSilent(silentMs)) return;
      clearInterval(timer);
      hopes = true;
      this.#hopes++;
      this.#fresh ??= new Watched(this.#make());
      const fresh = this.#fresh;
      again(fresh.pool, either(signal, second.signal)).then(
        (value) => {
          hopes = false;
          this.#hopes--;
          this.#turnTo(fresh, silent, silentMs);
          fromFresh.resolve(value);
        },
        // The silent one may have an answer all the same.
        () => {},
      );
    };
    const timer = setInterval(look, LOOK_MS).unref();
    try {
      return await Promise.race([answer, fromFresh.promise]);
    } finally {
      clearInterval(timer);
      silent.leave();
      if (hopes) {
        second.abort();
        if (--this.#hopes === 0) this.#dropFresh();
      }
    }
  }

  #turnTo(fresh: Watched<P>, silent: Watched<P>, silentMs: number): void {
    if (fresh === this.#fresh) {
      this.#fresh = undefined;
      // It may only have been slow, and still be of use to others.
      if (!this.#current.isSilent(silentMs)) this.#current.pool.retire();
      else if (this.#current !== silent) this.#current.pool.destroy();
      this.#current = fresh;
    }
    if (silent.isSilent(silentMs)) silent.pool.destroy();
  }

  #dropFresh(): void {
    this.#fresh?.pool.destroy();
    this.#fresh = undefined;
  }

  /** Puts another in the place of a pool; what is under way through that goes on. */
  renew(pool: P): void {
    if (this.#current.pool === pool) this.#current = new Watched(this.#make());
  }

  /** Breaks all, and begins anew. */
  reset(): void {
    this.close();
    this.#current = new Watched(this.#make());
  }

  close(): void {
    this.#dropFresh();
    this.#current.pool.destroy();
  }
}

function either(signal: AbortSignal | undefined, other: AbortSignal): AbortSignal {
  return signal ? AbortSignal.any([signal, other]) : other;
}
