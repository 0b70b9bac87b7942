import type { StoreError } from '../../util/errors.ts';

/** What moves less in a second counts as standing still when others wait for memory, in bytes. */
const SLOW_BYTES = 16 << 10;

/** What a client is to do next, while the server waits for it. */
export type Awaited = 'send' | 'read';

/** Memory that is asked for before it is used, and what comes of itself. */
export type Kind = 'held' | 'arrived';

/** A wait for memory. */
export interface Claim {
  readonly holding: Holding;
  readonly bytes: number;
  readonly granted: () => void;
}

/** Where what is held is counted: a `Budget`. */
export interface Ledger {
  take(holding: Holding, bytes: number): Promise<void> | undefined;
  change(holding: Holding, kind: Kind, bytes: number): void;
  /** Makes room when there is too much already. */
  shed(holding: Holding, kind: Kind): void;
  forget(holding: Holding): void;
  /** Looks at the clocks for as long as there is anything to look at. */
  watch(): void;
}

/** What one client holds, over all its connections. */
export class Share {
  readonly peer: string;
  readonly holdings = new Set<Holding>();
  /** What waits, in order. */
  claims: Claim[] = [];
  readonly #ledger: Ledger;
  /** Bytes. */
  held = 0;
  arrived = 0;

  constructor(ledger: Ledger, peer: string) {
    this.#ledger = ledger;
    this.peer = peer;
  }

  /** Begins to count what a request takes. `onCut` is called when it is to end, to make room or for being idle. */
  open(onCut: (error: StoreError) => void): Holding {
    return new Holding(this.#ledger, this, onCut);
  }
}

/** What is held on behalf of one request. */
export class Holding {
  readonly share: Share;
  /** Bytes. */
  held = 0;
  arrived = 0;
  readonly #ledger: Ledger;
  readonly #onCut: (error: StoreError) => void;
  #awaited: Awaited | undefined;
  #closed = false;
  #moved = 0;
  #movedAt = 0;
  /** What had been moved when it was last much, and when that was. */
  #mark = 0;
  #markAt = 0;

  constructor(ledger: Ledger, share: Share, onCut: (error: StoreError) => void) {
    this.#ledger = ledger;
    this.share = share;
    this.#onCut = onCut;
    share.holdings.add(this);
  }

  /** Takes memory before it is used, as soon as there is some. */
  take(bytes: number): Promise<void> | undefined {
    return this.#closed ? undefined : this.#ledger.take(this, bytes);
  }

  /** Counts what was made without being asked for. */
  add(bytes: number): void {
    this.#count('held', bytes);
  }

  give(bytes: number): void {
    if (!this.#closed) this.#ledger.change(this, 'held', -Math.min(bytes, this.held));
  }

  /** Counts what the client has sent ahead; less than nothing when that has been used. */
  arrive(bytes: number): void {
    this.#count('arrived', bytes);
  }

  #count(kind: Kind, bytes: number): void {
    if (this.#closed) return;
    this.#ledger.change(this, kind, bytes);
    if (bytes > 0) this.#ledger.shed(this, kind);
  }

  /** What the server waits for the client to do. Its clock runs meanwhile. */
  get awaited(): Awaited | undefined {
    return this.#awaited;
  }

  await(what: Awaited | undefined): void {
    if (what && !this.#awaited) {
      this.#movedAt = this.#markAt = performance.now();
      this.#mark = this.#moved;
      this.#ledger.watch();
    }
    this.#awaited = what;
  }

  /** The client has sent, or read, so many bytes. */
  moved(bytes: number): void {
    this.#moved += bytes;
    this.#movedAt = 0;
  }

  /** How long the client has done nothing, in milliseconds. */
  look(now: number): number {
    // Not at each move: asking for the time takes longer than counting.
    if (this.#movedAt === 0) this.#movedAt = now;
    if (this.#moved - this.#mark >= SLOW_BYTES) {
      this.#mark = this.#moved;
      this.#markAt = now;
    }
    return now - this.#movedAt;
  }

  /** How long it has moved too little, as of the last look. */
  slowFor(now: number): number {
    return now - this.#markAt;
  }

  cut(error: StoreError): void {
    this.close();
    this.#onCut(error);
  }

  close(): void {
    if (this.#closed) return;
    this.#ledger.forget(this);
    this.#closed = true;
  }
}
