import { StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { Claim, Kind, Ledger } from './holding.ts';
import { type Holding, Share } from './holding.ts';

/** What reading a NAR takes, in bytes: what is decompressed, cut and written. Where there is not so much, it has to wait. */
export const UPLOAD_MEMORY = 6 << 20;
/** What requests and answers may take at most, over all clients, when nobody says otherwise: bytes. */
export const DEFAULT_MAX_MEMORY = 48 << 20;
const MIN_MEMORY = 16 << 20;
/** Of it, what one client may take; the rest is for others. */
const MOST_EACH = 3 / 4;
/** So much, in bytes, each client may have though others hold everything, up to so many times the whole. */
const LITTLE = 2 << 20;
const WITH_LITTLE = 2;
/** Of the whole, so much may be there that turned out larger than was asked for, or comes unasked; then somebody is cut off. */
const MOST = { held: 5 / 4, arrived: 3 / 4 };
/** A client that does nothing, where it is its turn, is left after this long, in milliseconds. */
const IDLE_MS = 60_000;
/** When nobody has got memory for so long, in milliseconds, it is taken from those who have not moved for as long. */
const PRESSED_MS = 1000;
/** When nobody has got any for so long, one gets it that has begun: they may all be waiting for each other. */
const STUCK_MS = 5000;
const TICK_MS = 250;
/** Those who are cut off are told of one by one so often, in milliseconds. */
const LOG_MS = 1000;

/**
 * The memory that a server holds on behalf of its clients: requests on their way in, answers on their way out, contents
 * in between. It is asked for before it is used:
 *
 * - A little of it each client gets at once, whatever the others do.
 * - More of it waits until there is some; the client that would hold the least goes first.
 * - What waits for a client is on its clock, and is given up after a minute of nothing; or after a second, when others
 *   wait who hold less than a fair share of the memory, and it is of one who holds more.
 * - What comes unasked, calls and what is sent ahead in them, has a limit of its own: beyond, and when what was asked for
 *   turns out to be more, the largest call of the largest client is cut off.
 */
export class Budget implements Ledger {
  readonly #most: number;
  readonly #idleMs: number;
  readonly #shares = new Map<string, Share>();
  /** Those of which claims wait. */
  readonly #waiting = new Set<Share>();
  readonly #total = { held: 0, arrived: 0 };
  #grantedAt = 0;
  #loggedAt = -LOG_MS;
  #unlogged = 0;
  #timer: NodeJS.Timeout | undefined;
  #granting: NodeJS.Immediate | undefined;

  /** `most` in bytes. */
  constructor(most: number = DEFAULT_MAX_MEMORY, idleMs = IDLE_MS) {
    this.#most = Math.max(most, MIN_MEMORY);
    this.#idleMs = idleMs;
  }

  get held(): number {
    return this.#total.held;
  }

  /** The share of a client, which others that are called the same have part in. */
  share(peer: string): Share {
    const known = this.#shares.get(peer);
    if (known) return known;
    const share = new Share(this, peer);
    this.#shares.set(peer, share);
    return share;
  }

  take(holding: Holding, bytes: number): Promise<void> | undefined {
    if (this.#hasRoom(holding.share, bytes)) {
      this.change(holding, 'held', bytes);
      return undefined;
    }
    if (this.#waiting.size === 0) this.#grantedAt = performance.now();
    this.watch();
    this.#waiting.add(holding.share);
    return new Promise((resolve) => holding.share.claims.push({ holding, bytes, granted: resolve }));
  }

  #hasRoom({ held }: Share, bytes: number): boolean {
    const wanted = held + bytes;
    // One that holds nothing would wait for ever for what is larger than all it may have.
    if (wanted > this.#most * MOST_EACH && held > 0) return false;
    const most = wanted <= LITTLE ? this.#most * WITH_LITTLE : this.#most;
    return this.#total.held + bytes <= most || this.#total.held === 0;
  }

  change(holding: Holding, kind: Kind, bytes: number): void {
    holding[kind] += bytes;
    holding.share[kind] += bytes;
    this.#total[kind] += bytes;
    if (bytes < 0 && this.#waiting.size > 0) this.#grantSoon();
  }

  /** When everything has been heard that happened at the same time: of a connection that ends, all calls do. */
  #grantSoon(): void {
    this.#granting ??= setImmediate(() => {
      this.#granting = undefined;
      this.#grant();
    });
  }

  shed({ share }: Holding, kind: Kind): void {
    const most = this.#most * MOST[kind];
    while (share[kind] > most * MOST_EACH) if (!this.#cutLargest(share, kind)) break;
    while (this.#total[kind] > most) {
      if (!this.#cutLargest(largest(this.#shares.values(), kind)!, kind)) break;
    }
  }

  /** Of a client that holds more than a little: false when there is none. */
  #cutLargest(share: Share, kind: Kind): boolean {
    if (share[kind] <= LITTLE) return false;
    const reason = 'this client has too much under way at once; try again';
    this.#cut(largest(share.holdings, kind)!, 'RESOURCE_EXHAUSTED', reason);
    return true;
  }

  forget(holding: Holding): void {
    const { share } = holding;
    for (const claim of share.claims) if (claim.holding === holding) claim.granted();
    share.claims = share.claims.filter((claim) => claim.holding !== holding);
    if (share.claims.length === 0) this.#waiting.delete(share);
    share.holdings.delete(holding);
    if (share.holdings.size === 0) this.#shares.delete(share.peer);
    this.change(holding, 'arrived', -holding.arrived);
    this.change(holding, 'held', -holding.held);
  }

  #grant(): void {
    for (;;) {
      let next: Claim | undefined;
      let least = Number.POSITIVE_INFINITY;
      for (const share of this.#waiting) {
        const claim = share.claims[0]!;
        const after = share.held + claim.bytes;
        if (after >= least || !this.#hasRoom(share, claim.bytes)) continue;
        next = claim;
        least = after;
      }
      if (!next) return;
      this.#give(next);
    }
  }

  /** Grants the claim of a client that comes first. */
  #give({ holding, bytes, granted }: Claim): void {
    const { share } = holding;
    share.claims.shift();
    if (share.claims.length === 0) this.#waiting.delete(share);
    this.#grantedAt = performance.now();
    this.change(holding, 'held', bytes);
    granted();
  }

  watch(): void {
    this.#timer ??= setInterval(() => this.#look(), TICK_MS).unref();
  }

  #look(): void {
    const now = performance.now();
    const slow: Holding[] = [];
    let awaits = this.#waiting.size > 0;
    for (const share of this.#shares.values()) {
      for (const holding of share.holdings) {
        if (!holding.awaited) continue;
        awaits = true;
        const idle = holding.look(now);
        if (idle >= this.#idleMs) this.#leave(holding, 'DEADLINE_EXCEEDED', 'nothing', idle);
        else if (holding.slowFor(now) >= PRESSED_MS) slow.push(holding);
      }
    }
    if (!awaits) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return;
    }
    if (this.#waiting.size === 0) return;
    if (now - this.#grantedAt >= PRESSED_MS) this.#press(slow, now);
    if (now - this.#grantedAt >= STUCK_MS) this.#unstick();
  }

  /** Cuts off slow calls, the largest clients' first, until one of those who hold less than is fair has got memory. */
  #press(slow: readonly Holding[], now: number): void {
    const fair = this.#most / this.#shares.size;
    const isFair = ({ held, claims }: Share) =>
      claims.length > 0 && held + claims[0]!.bytes <= Math.max(fair, LITTLE);
    if (![...this.#waiting].some(isFair)) return;
    const largestFirst = slow.toSorted((a, b) => b.share.held - a.share.held || b.held - a.held);
    for (const holding of largestFirst) {
      if (this.#grantedAt > now) return;
      if (holding.held > 0 && holding.share.held > fair) {
        this.#leave(
          holding,
          'RESOURCE_EXHAUSTED',
          'too little',
          holding.slowFor(now),
          ' while others wait for memory',
        );
        this.#grant();
      }
    }
  }

  #unstick(): void {
    const first = Array.from(this.#waiting, ({ claims }) => claims[0]!);
    this.#give(first.reduce((least, claim) => (claim.bytes < least.bytes ? claim : least)));
  }

  #leave(holding: Holding, code: StoreError['code'], what: string, ms: number, why = ''): void {
    const done = holding.awaited === 'send' ? 'sent' : 'taken';
    this.#cut(holding, code, `${what} was ${done} for ${Math.max(1, Math.round(ms / 1000))} s${why}`);
  }

  #cut(holding: Holding, code: StoreError['code'], reason: string): void {
    const now = performance.now();
    if (now - this.#loggedAt < LOG_MS) {
      this.#unlogged++;
    } else {
      const { share, held, arrived } = holding;
      const others = this.#unlogged;
      log.info('a client is cut off', { peer: share.peer, reason, held: held + arrived, others });
      this.#loggedAt = now;
      this.#unlogged = 0;
    }
    holding.cut(new StoreError(code, reason));
  }
}

function largest<T extends { readonly [kind in Kind]: number }>(
  among: Iterable<T>,
  kind: Kind,
): T | undefined {
  let found: T | undefined;
  for (const one of among) if (!found || one[kind] > found[kind]) found = one;
  return found;
}
