/** What is under way is to arrive within this, in milliseconds, beyond what any answer takes. */
const UNDER_WAY_MS = 500;
/** What may be under way at once while nothing is known of the line, unless another limit is given, and at least, in bytes. */
const FIRST_LIMIT = 3 << 19;
export const LEAST_LIMIT = 256 << 10;
/** Less than this, in bytes, does not show what the line carries. */
const MUCH = 64 << 10;
/** What took longer shows it also if the line could have had more to carry, in milliseconds. */
const LONG_MS = 2000;
/** How much of a slower rate is believed at a time. */
const SLOWER = 1 / 4;
/** Bytes in a millisecond of a line that is not slow. */
const NOT_SLOW = 3000;

/** The beginning of a transfer. */
export interface Departure {
  readonly at: number;
  /** Bytes that had arrived by then, of anything. */
  readonly arrived: number;
}

/**
 * The line to or from a far store, as its transfers find it: how much arrives in a second, and so how much should be under
 * way at once. More makes nothing faster, but on a slow line everything late.
 */
export class Line {
  readonly #firstLimit: number;
  #arrived = 0;
  /** The most that has arrived in a millisecond of late, in bytes. */
  #rate: number | undefined;
  /** The time that an answer takes at least, in milliseconds. */
  #shortest = Number.POSITIVE_INFINITY;

  /** `firstLimit`: bytes that may be under way at once while nothing is known of the line. */
  constructor(firstLimit: number = FIRST_LIMIT) {
    this.#firstLimit = firstLimit;
  }

  /** Most bytes that should be under way at once. */
  get limit(): number {
    if (this.#rate === undefined) return this.#firstLimit;
    return Math.max(LEAST_LIMIT, this.#rate * (UNDER_WAY_MS + this.#shortest));
  }

  /** Whether some megabytes under way are known to keep others waiting. */
  get isSlow(): boolean {
    return this.#rate !== undefined && this.#rate < NOT_SLOW;
  }

  /** Whether it is known how much it carries. */
  get isMeasured(): boolean {
    return this.#rate !== undefined;
  }

  /** Whether so many bytes are known to be carried within so many milliseconds. */
  carries(bytes: number, milliseconds: number): boolean {
    return this.#rate !== undefined && bytes <= this.#rate * milliseconds;
  }

  arrived(bytes: number): void {
    this.#arrived += bytes;
  }

  /** Takes note that an answer took so many milliseconds. */
  answered(took: number): void {
    this.#shortest = Math.min(took, this.#shortest);
  }

  depart(): Departure {
    return { at: performance.now(), arrived: this.#arrived };
  }

  /**
   * Takes note that a transfer has ended well. `wasFull`: there was more to carry than the limit allowed. `besides`: bytes
   * that were carried meanwhile and have not been told of.
   */
  landed(departure: Departure, wasFull: boolean, besides = 0): void {
    const took = Math.max(performance.now() - departure.at, 0.1);
    const arrived = this.#arrived - departure.arrived + besides;
    this.answered(took);
    if (arrived < MUCH && took < LONG_MS) return;
    const rate = arrived / took;
    if (this.#rate === undefined || rate > this.#rate) this.#rate = rate;
    else if (wasFull || took > LONG_MS) this.#rate += (rate - this.#rate) * SLOWER;
  }
}
