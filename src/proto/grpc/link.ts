import { Connection } from './connection.ts';
import type { Work } from './second-try.ts';
import { SecondTries } from './second-try.ts';

/** How often a connection with calls under way is looked at, in milliseconds. */
const LOOK_MS = 250;
/** After so long without a byte the peer is asked for a sign of life; and it has so long to give one. */
const SILENT_MS = 1000;
const ANSWER_MS = 1000;
/** A peer that lives and is only slow is asked less and less often: at least this often. */
const MAX_SILENT_MS = 32_000;
/** A fresh connection that is not made after so long gets another beside it. */
const FRESH_MS = 2000;
const MAX_FRESH = 5;

/**
 * The way to a peer: a connection that is replaced when it has gone silent, as when a router in between has forgotten
 * it, or the peer's host went away without a word. A silent peer is asked for a sign of life; if that does not come, a fresh
 * connection is tried beside the silent one, and taken if it is there before a sign of life. Then the calls of the
 * silent one fail with UNAVAILABLE.
 */
export class Link {
  /** A connection of its own. */
  readonly dial: () => Connection;
  #connection: Connection;
  #timer: NodeJS.Timeout | undefined;
  /** What had come at the last look, and when that changed. */
  #seen = 0;
  #since = 0;
  #silentMs = SILENT_MS;
  /** When it was asked for a sign of life that has not come. */
  #askedAt: number | undefined;
  #fresh: Connection[] = [];
  #freshAt = 0;
  readonly #tries: SecondTries;

  constructor(dial: ConstructorParameters<typeof Connection>[0]) {
    this.dial = () => new Connection(dial);
    this.#connection = this.dial();
    this.#tries = new SecondTries(this);
  }

  /** The connection as it is now. */
  get connection(): Connection {
    return this.#connection;
  }

  /** The connection for a call that begins; from now on it is watched. */
  take(): Connection {
    if (!this.#timer) {
      this.#since = performance.now();
      this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
    }
    return this.#connection;
  }

  /** Makes a call that may be made on two connections. */
  ask<T>(work: Work<T>): Promise<T> {
    return this.#tries.run(this.take(), work);
  }

  #look(): void {
    const connection = this.#connection;
    const now = performance.now();
    const { received } = connection;
    if (received !== this.#seen) {
      // What came may be no more than the sign of life: then the peer is slow, and there is no hurry to ask again.
      this.#silentMs = this.#askedAt === undefined ? SILENT_MS : this.#longer();
      this.#seen = received;
      this.#since = now;
      this.#askedAt = undefined;
      this.#dropFresh();
    } else if (!connection.isWaiting) {
      // A peer that owes a sign of life is not waited for as long again by the next who asks.
      this.#since = now;
      this.#dropFresh();
    } else if (this.#askedAt !== undefined) {
      if (now - this.#askedAt >= ANSWER_MS) this.#tryFresh(now);
    } else if (now - this.#since >= this.#silentMs) {
      this.#askedAt = now;
      connection.probe();
    }
    if (!connection.isWaiting && this.#tries.areIdle) this.#rest();
    this.#tries.look(now);
  }

  /** Takes a connection in the place of another one that lives, and lets that end what it has. */
  prefer(better: Connection, other: Connection): void {
    if (better === this.#connection) return;
    if (other !== this.#connection) {
      better.retire();
      return;
    }
    this.#dropFresh();
    this.#begin(better);
    other.retire();
  }

  #longer(): number {
    return Math.min(this.#silentMs * 2, MAX_SILENT_MS);
  }

  #tryFresh(now: number): void {
    if (this.#fresh.length > 0 && now - this.#freshAt < FRESH_MS) return;
    this.#freshAt = now;
    const fresh = this.dial();
    this.#fresh.push(fresh);
    if (this.#fresh.length > MAX_FRESH) this.#fresh.shift()!.break();
    fresh.ready(FRESH_MS * MAX_FRESH).then(
      () => this.#turnTo(fresh),
      () => {},
    );
  }

  #turnTo(fresh: Connection): void {
    if (!this.#fresh.includes(fresh)) return;
    this.#fresh = this.#fresh.filter((one) => one !== fresh);
    this.#dropFresh();
    const silent = this.#connection;
    // If it is the peer that is slow, and not the connection that is dead, its calls need more time than they had.
    this.#silentMs = this.#longer();
    this.#begin(fresh);
    silent.break();
  }

  #begin(connection: Connection): void {
    this.#connection = connection;
    this.#seen = connection.received;
    this.#since = performance.now();
    this.#askedAt = undefined;
  }

  #dropFresh(): void {
    for (const one of this.#fresh.splice(0)) one.break();
  }

  #rest(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Gives up the calls, and begins anew. */
  reset(): void {
    this.close();
    this.#connection = this.dial();
    this.#seen = 0;
    this.#askedAt = undefined;
  }

  close(): void {
    this.#rest();
    this.#dropFresh();
    this.#tries.close();
    this.#connection.close();
  }
}
