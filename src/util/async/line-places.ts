import { orAborted } from './abort.ts';
import type { Departure } from './line.ts';
import { LEAST_LIMIT, Line } from './line.ts';

/** What something costs besides its contents, in bytes: with many small ones that is most of it. */
const OVERHEAD = 4096;
/** A line is fast that carries so many bytes, what a stream has under way, in so many milliseconds. */
const MUCH = 8 << 20;
const SOON_MS = 500;

/** What has been carried, so many bytes from one moment to another. */
interface Carried {
  readonly from: number;
  readonly to: number;
  readonly bytes: number;
}

/** Something that waits for its turn. */
interface Waiting {
  readonly size: number;
  readonly turn: PromiseWithResolvers<void>;
}

/**
 * What is sent, or fetched, at once: as much as the line carries in half a second, so that on a slow one little is lost when
 * it breaks, and nothing waits for long behind the rest. As the mount's `Transfers`, but nobody is in a hurry.
 */
export class LinePlaces {
  // Whoever is cut off has begun anew, and knows nothing: little may be lost again.
  readonly #line = new Line(LEAST_LIMIT);
  readonly #waiting: Waiting[] = [];
  /** How many are under way, and their bytes. */
  #count = 0;
  #bytes = 0;
  /** Their departures, the oldest first. */
  readonly #departures = new Set<Departure>();
  /** What has landed since the oldest departed that is under way. */
  #carried: Carried[] = [];

  /** Whether the line is known to be so fast that it does not matter how much is under way. */
  get isFast(): boolean {
    return this.#line.carries(MUCH, SOON_MS);
  }

  /** Whether anything is known of the line. */
  get isMeasured(): boolean {
    return this.#line.isMeasured;
  }

  /** Bytes that should be under way at once. */
  get limit(): number {
    return this.#line.limit;
  }

  /**
   * Moves something in its turn, of which `size` bytes are under way at once. `work` gets what is to be told of bytes
   * beyond these. Throws the signal's reason when that fires while this waits.
   */
  async run<T>(
    size: number,
    work: (sent: (bytes: number) => void) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const waiting = { size: size + OVERHEAD, turn: Promise.withResolvers<void>() };
    this.#waiting.push(waiting);
    this.#next();
    const waited = this.#waiting.includes(waiting);
    try {
      if (waited) await orAborted(waiting.turn.promise, signal);
    } catch (error) {
      const at = this.#waiting.indexOf(waiting);
      if (at >= 0) this.#waiting.splice(at, 1);
      else this.#leave(waiting);
      throw error;
    }
    const departure = this.#line.depart();
    this.#departures.add(departure);
    try {
      const result = await work((bytes) => this.#line.arrived(bytes));
      this.#carried.push({ from: departure.at, to: performance.now(), bytes: waiting.size });
      this.#line.landed(departure, waited || this.#waiting.length > 0, this.#carriedSince(departure.at));
      return result;
    } finally {
      this.#departures.delete(departure);
      this.#forget();
      this.#leave(waiting);
    }
  }

  /**
   * The bytes that were carried since then of what has landed: of what departed earlier, its part of that time. As a whole
   * it would make the line look fast to a short transfer that ends just after it.
   */
  #carriedSince(since: number): number {
    let sum = 0;
    for (let i = this.#carried.length - 1; i >= 0 && this.#carried[i]!.to > since; i--) {
      const { from, to, bytes } = this.#carried[i]!;
      sum += from >= since ? bytes : (bytes * (to - since)) / (to - from);
    }
    return sum;
  }

  /** Forgets what nothing that is under way can have met. */
  #forget(): void {
    const [oldest] = this.#departures;
    if (!oldest) this.#carried = [];
    else if (this.#carried[0] && this.#carried[0].to <= oldest.at)
      this.#carried = this.#carried.filter(({ to }) => to > oldest.at);
  }

  #leave({ size }: Waiting): void {
    this.#count--;
    this.#bytes -= size;
    this.#next();
  }

  /** Gives turns as far as there is room. One may go in any case. */
  #next(): void {
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      if (this.#count > 0 && this.#bytes + next.size > this.#line.limit) return;
      this.#waiting.shift();
      this.#count++;
      this.#bytes += next.size;
      next.turn.resolve();
    }
  }
}
