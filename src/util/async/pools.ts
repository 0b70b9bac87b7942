/** How often a pool that somebody waits for is looked at, and after how long without a byte it is silent, in milliseconds. */
const LOOK_MS = 500;
export const SILENT_MS = 2000;
/** When nothing has come over fresh connections either for so long, in milliseconds, others are tried in their place. */
const FRESH_MS = 3500;
/** A request that is lost though others are answered is made again, each time after so many times as long. */
const LONGER = 3;

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
  /** When the latest request was made that has been answered. */
  #answered = 0;

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

  /** A request that was made at a time has been answered. */
  answered(begun: number): void {
    this.#answered = Math.max(this.#answered, begun);
  }

  /** Whether one was answered that was made after a time. */
  hasAnsweredSince(time: number): boolean {
    return this.#answered > time;
  }

  get isWaitedFor(): boolean {
    return this.#waiting > 0;
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

/** A request that is made again over fresh connections. */
interface Hope<P extends Pool> {
  readonly fresh: Watched<P>;
  readonly stop: AbortController;
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
 * them: what is being waited for is asked again over fresh connections, beside it, and again over others until something
 * comes. Those from which the answer comes are the pool from then on.
 *
 * So is a request for which nothing comes while later ones are answered, since something in between has lost it. The peer
 * may only be slow: of those requests one at a time is made again.
 */
export class Pools<P extends Pool> {
  readonly #make: () => P;
  #current: Watched<P>;
  #fresh: Watched<P> | undefined;

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
    const asked = this.#current;
    const begun = performance.now();
    const again = async (fresh: P, unwanted: AbortSignal) => {
      const answer = await request(fresh, unwanted);
      first.abort();
      return answer;
    };
    const answer = request(pool, either(signal, first.signal)).then((value) => {
      asked.answered(begun);
      return value;
    });
    return this.wait(pool, answer, { again, signal });
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
    let hope: Hope<P> | undefined;
    const begun = performance.now();
    let lostMs = silentMs;
    const isLost = () =>
      performance.now() - begun >= lostMs && silent.hasAnsweredSince(begun) && (hope || !this.#fresh);
    const look = () => {
      if (!silent.isSilent(silentMs) && !isLost()) return;
      if (hope && !hope.fresh.isSilent(FRESH_MS)) return;
      lostMs *= LONGER;
      if (hope) this.#giveUp(hope);
      const mine = this.#hope();
      hope = mine;
      again(mine.fresh.pool, either(signal, mine.stop.signal)).then(
        (value) => {
          if (mine.stop.signal.aborted) return;
          clearInterval(timer);
          hope = undefined;
          mine.fresh.leave();
          this.#turnTo(mine.fresh, silent, silentMs);
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
      if (hope) this.#giveUp(hope);
    }
  }

  #hope(): Hope<P> {
    if (this.#fresh?.isSilent(FRESH_MS)) this.#dropFresh();
    this.#fresh ??= new Watched(this.#make());
    this.#fresh.enter();
    return { fresh: this.#fresh, stop: new AbortController() };
  }

  #giveUp({ fresh, stop }: Hope<P>): void {
    stop.abort();
    fresh.leave();
    if (fresh === this.#fresh && !fresh.isWaitedFor) this.#dropFresh();
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
