import { orAborted } from '../../util/async/abort.ts';
import { ArrivalTeller, arrivalListener, watchArrivals } from '../../util/async/arrivals.ts';
import { Line } from '../../util/async/line.ts';
import { SingleFlight } from '../../util/async/single-flight.ts';

/**
 * How soon something is wanted: a small file, the beginning of a large one or a jump in it, what follows there, or what
 * nobody waits for yet.
 */
export const URGENCY = { SMALL: 0, FIRST: 1, NEXT: 2, AHEAD: 3 } as const;
export type Urgency = (typeof URGENCY)[keyof typeof URGENCY];

/** What a transfer costs besides its contents, in bytes: with many small ones that is most of it. */
const OVERHEAD = 4096;
/** One for which nothing arrives for so long takes up no place: the others may do better, in milliseconds. */
const SILENT_MS = 2000;
/** Every so many turns it is that of whoever has waited longest: else who reads much might wait for ever. */
const FAIR_TURN = 4;
/** What streams may have under way, in bytes. */
const STREAMS_BYTES = 8 << 20;
/** Those who wait hear this often that something arrives, in milliseconds. */
const TELL_MS = 100;
/** What arrives for others is a reason to wait when it is so many bytes within so many milliseconds: else nothing will come of it. */
const LEAST_BYTES = 4096;
const LEAST_MS = 3000;

/** What is to be transferred. */
export interface Cargo {
  /** Of the same key, there is one transfer at a time. */
  readonly key: string;
  /** Bytes that will be under way. */
  readonly size: number;
  readonly urgency: Urgency;
}

/** Something that has been asked for. */
interface Asked {
  /** Tells those who wait for it that it is worth while. */
  readonly tell: (bytes: number) => void;
  /** Bytes that may arrive before it: while they do, it is no wonder that nothing comes of it. */
  before: number;
}

/** A transfer that waits for its turn, or has it. */
interface Transfer {
  readonly size: number;
  urgency: Urgency;
  readonly tell: (bytes: number) => void;
  /** Resolves when it has a place. */
  readonly turn: PromiseWithResolvers<void>;
  hasPlace: boolean;
}

/**
 * What is fetched at once, and in which order: as much as the line carries in half a second, and what somebody waits
 * for first. All at once, on a slow line nothing would arrive in time.
 */
export class Transfers {
  readonly line: Line = new Line();
  readonly #flights = new SingleFlight<void>();
  /** In the order in which they came. */
  readonly #waiting = new Map<string, Transfer>();
  readonly #asked = new Set<Asked>();
  /** Transfers that take up a place, and their bytes. */
  #places = 0;
  #bytes = 0;
  #turns = 0;
  readonly #teller = new ArrivalTeller((bytes) => this.#tell(bytes), TELL_MS);
  /** Bytes that have arrived and that nobody else has heard of, and since when. */
  #few = 0;
  #fewSince = 0;

  /** Whether something is being transferred, or waits for its turn. */
  has(key: string): boolean {
    return this.#flights.has(key);
  }

  /** Transfers something in its turn, once for all who want it meanwhile. */
  run(cargo: Cargo, work: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void> {
    const waiting = this.#waiting.get(cargo.key);
    if (waiting && cargo.urgency < waiting.urgency) waiting.urgency = cargo.urgency;
    return this.#flights.run(cargo.key, (shared) => this.#inTurn(cargo, work, shared), signal);
  }

  /** Does something at once, for which little comes over the line. */
  async beside<T>(work: () => Promise<T>): Promise<T> {
    const asked = this.#ask(teller());
    try {
      return await work();
    } finally {
      this.#asked.delete(asked);
    }
  }

  /** Notes bytes that have arrived over the line, of whatever. */
  arrived(bytes: number): void {
    this.line.arrived(bytes);
    this.#teller.arrived(bytes);
  }

  #tell(arrived: number): void {
    const now = performance.now();
    if (now - this.#fewSince > LEAST_MS) {
      this.#few = 0;
      this.#fewSince = now;
    }
    this.#few += arrived;
    if (this.#few < LEAST_BYTES) return;
    const bytes = this.#few;
    this.#few = 0;
    this.#fewSince = now;
    for (const { tell } of this.#waiting.values()) tell(bytes);
    for (const asked of this.#asked) {
      if (asked.before > 0) asked.tell(bytes);
      asked.before -= bytes;
    }
  }

  #ask(tell: (bytes: number) => void): Asked {
    // The peer may send in any order, also what it was asked for later.
    const asked = { tell, before: 2 * this.#bytes + STREAMS_BYTES };
    this.#asked.add(asked);
    return asked;
  }

  async #inTurn(cargo: Cargo, work: (signal: AbortSignal) => Promise<void>, signal: AbortSignal) {
    const transfer: Transfer = {
      size: cargo.size + OVERHEAD,
      urgency: cargo.urgency,
      turn: Promise.withResolvers<void>(),
      tell: teller(),
      hasPlace: false,
    };
    this.#waiting.set(cargo.key, transfer);
    this.#next();
    const waited = !transfer.hasPlace;
    try {
      if (waited) await orAborted(transfer.turn.promise, signal);
      await this.#move(transfer, cargo.size, waited, work, signal);
    } finally {
      if (this.#waiting.get(cargo.key) === transfer) this.#waiting.delete(cargo.key);
      this.#leave(transfer);
    }
  }

  async #move(
    transfer: Transfer,
    size: number,
    waited: boolean,
    work: (signal: AbortSignal) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const silence = setTimeout(() => this.#leave(transfer), SILENT_MS).unref();
    const departure = this.line.depart();
    const tell = (bytes: number) => {
      if (transfer.hasPlace) silence.refresh();
      transfer.tell(bytes);
    };
    const asked = this.#ask(tell);
    let isTold = false;
    const onArrival = (bytes: number) => {
      isTold = true;
      tell(bytes);
      this.arrived(bytes);
    };
    try {
      const moving = watchArrivals(onArrival, () => work(signal));
      // There are services that do not notice that nobody waits any more.
      await orAborted(moving, signal);
    } finally {
      clearTimeout(silence);
      this.#asked.delete(asked);
    }
    if (!isTold) this.arrived(size);
    this.line.landed(departure, waited || this.#waiting.size > 0);
  }

  #leave(transfer: Transfer): void {
    if (!transfer.hasPlace) return;
    transfer.hasPlace = false;
    this.#places--;
    this.#bytes -= transfer.size;
    this.#next();
  }

  /** Gives places to those whose turn it is, as far as there is room. One may go in any case. */
  #next(): void {
    for (;;) {
      const [key, transfer] = this.#first() ?? [];
      if (key === undefined || !transfer) return;
      // What is read ahead leaves room for what somebody will wait for.
      const limit = transfer.urgency === URGENCY.AHEAD ? this.line.limit / 2 : this.line.limit;
      if (this.#places > 0 && this.#bytes + transfer.size > limit) return;
      this.#waiting.delete(key);
      transfer.hasPlace = true;
      this.#turns++;
      this.#places++;
      this.#bytes += transfer.size;
      transfer.turn.resolve();
    }
  }

  #first(): [string, Transfer] | undefined {
    const isFairTurn = this.#turns % FAIR_TURN === FAIR_TURN - 1;
    let best: [string, Transfer] | undefined;
    for (const entry of this.#waiting) {
      const { urgency } = entry[1];
      if (urgency === URGENCY.SMALL || (isFairTurn && urgency !== URGENCY.AHEAD)) return entry;
      if (!best || urgency < best[1].urgency) best = entry;
    }
    return best;
  }
}

/** Tells whoever watches what is done here, even when others ask. */
function teller(): (bytes: number) => void {
  const listener = arrivalListener();
  return (bytes) => listener?.(bytes);
}
