import { arrivalListener, watchArrivals } from '../../util/async/arrivals.ts';
import { mayPass } from '../../util/async/transient.ts';
import type { Connection } from './connection.ts';

/** A call of which nothing has come for so long is made once more; after having been so in vain, later: up to so late. In milliseconds. */
const DEAD_MS = 2000;
const MAX_DEAD_MS = 32_000;
/** For so long it is remembered, in milliseconds, that it was in vain. */
const VAIN_MS = 60_000;
/** A second try of which nothing comes is given up after so many times as long. */
const LONGER = 2;

/** A call on a connection, of which something came last at some time. */
interface Try {
  readonly connection: Connection;
  readonly stop: AbortController;
  heardAt: number;
}

interface Asked {
  readonly first: Try;
  second: Try | undefined;
  /** Makes it on another connection, too. */
  again(connection: Connection): void;
}

export interface Ways {
  /** The connection as it is now. */
  readonly connection: Connection;
  dial(): Connection;
  /** A connection has answered what another one, that lives, did not. */
  prefer(better: Connection, other: Connection): void;
}

export interface Work<T> {
  /** Makes the call; its signal says when it is no longer wanted. */
  readonly call: (connection: Connection, signal: AbortSignal) => Promise<T>;
  /** Lets go of an answer that nobody wants, since there was another. */
  readonly leave: (answer: T) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Calls that only read, and may be dead on a connection which lives: when something in between has lost one. Such a call
 * is made once more over a fresh connection, beside the first, and whichever is answered first counts.
 *
 * The peer, or the line, may only be slow. So it has to have answered a probe that was made after the call; and of the
 * calls on a connection only one at a time is made again. When that is answered, its connection takes the place of the
 * other, and the rest of those that are silent there follow.
 */
export class SecondTries {
  readonly #ways: Ways;
  readonly #asked = new Set<Asked>();
  #fresh: Connection | undefined;
  #deadMs = DEAD_MS;
  #vainAt = 0;

  constructor(ways: Ways) {
    this.#ways = ways;
  }

  /** Whether no call is under way. */
  get areIdle(): boolean {
    return this.#asked.size === 0;
  }

  async run<T>(connection: Connection, { call, leave, signal }: Work<T>): Promise<T> {
    const outcome = Promise.withResolvers<T>();
    const listener = arrivalListener();
    let winner: Try | undefined;
    const begin = (on: Connection, onEnd: (one: Try, settle: () => void, error?: unknown) => void): Try => {
      const one = { connection: on, stop: new AbortController(), heardAt: performance.now() };
      const until = signal ? AbortSignal.any([signal, one.stop.signal]) : one.stop.signal;
      const hear = (bytes: number) => {
        one.heardAt = performance.now();
        listener?.(bytes);
      };
      watchArrivals(hear, () => call(on, until)).then(
        (answer) => {
          if (winner || one.stop.signal.aborted) leave(answer);
          else onEnd(one, () => outcome.resolve(answer));
        },
        (error) => onEnd(one, () => outcome.reject(error), error),
      );
      return one;
    };
    const end = (one: Try, settle: () => void) => {
      winner ??= one;
      settle();
    };
    const asked: Asked = {
      first: begin(connection, end),
      second: undefined,
      again: (on) => {
        asked.second = begin(on, (second, settle, error) => {
          if (winner || asked.second !== second) return;
          if (error !== undefined && mayPass(error, 0)) {
            this.#giveUp(asked);
            return;
          }
          this.#prefer(asked, on);
          end(second, settle);
        });
      },
    };
    this.#asked.add(asked);
    try {
      return await outcome.promise;
    } finally {
      this.#asked.delete(asked);
      if (asked.second) this.#giveUp(asked);
    }
  }

  /** To be called now and then: makes calls once more that are silent, or gives that up. */
  look(now: number): void {
    if (now - this.#vainAt > VAIN_MS) this.#deadMs = DEAD_MS;
    for (const asked of this.#asked) {
      const { first, second } = asked;
      const { connection } = first;
      if (second) {
        if (now - second.heardAt > LONGER * this.#deadMs) this.#giveUp(asked);
        continue;
      }
      const since = first.heardAt + this.#deadMs / 2;
      if (now < since || !connection.isWaiting) continue;
      if (!connection.hasProbedSince(since)) connection.probe();
      else if (now >= first.heardAt + this.#deadMs && connection.hasAnsweredSince(since)) this.#again(asked);
    }
  }

  #again(asked: Asked): void {
    const { connection } = this.#ways;
    if (asked.first.connection !== connection) asked.again(connection);
    else if (!this.#fresh) {
      this.#fresh = this.#ways.dial();
      asked.again(this.#fresh);
    }
  }

  #prefer(asked: Asked, better: Connection): void {
    asked.second = undefined;
    asked.first.stop.abort();
    if (better === this.#fresh) this.#fresh = undefined;
    this.#deadMs = DEAD_MS;
    this.#ways.prefer(better, asked.first.connection);
  }

  /** Ends a second try, which was in vain. */
  #giveUp(asked: Asked): void {
    const { second } = asked;
    asked.second = undefined;
    second!.stop.abort();
    this.#deadMs = Math.min(this.#deadMs * LONGER, MAX_DEAD_MS);
    this.#vainAt = performance.now();
    if (second!.connection === this.#fresh) this.close();
  }

  close(): void {
    this.#fresh?.close();
    this.#fresh = undefined;
  }
}
