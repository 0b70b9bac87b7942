const FEW_AT_ONCE = 2;
/** Full calls under way at once: more were no faster. */
const FULL_AT_ONCE = 4;

export interface GatheringOptions<T> {
  /** Sees to items in one call. It tells each of them how it went, and never throws. */
  readonly call: (items: readonly T[]) => Promise<void>;
  /** What one counts of a call. */
  readonly sizeOf: (item: T) => number;
  /** What fills a call. */
  readonly full: () => number;
  /** Calls that may be under way while there is less than a full one to send. */
  readonly few?: number;
}

/**
 * Gathers what is wanted at the same time into few calls. What comes alone goes at once; while calls are under way, more
 * gathers behind them until it fills one, or one of them has ended.
 */
export class Gathering<T> {
  readonly #options: GatheringOptions<T>;
  readonly #few: number;
  #items: T[] = [];
  #size = 0;
  #underWay = 0;
  #isDue = false;

  constructor(options: GatheringOptions<T>) {
    this.#options = options;
    this.#few = options.few ?? FEW_AT_ONCE;
  }

  add(item: T): void {
    this.#items.push(item);
    this.#size += this.#options.sizeOf(item);
    // What does not fit into a full call waits for what else is wanted at the same time.
    while (this.#isFull()) this.#call();
    this.#sendSoon();
  }

  /** Takes back what has not been sent; false when it has. */
  remove(item: T): boolean {
    const at = this.#items.indexOf(item);
    if (at < 0) return false;
    this.#items.splice(at, 1);
    this.#size -= this.#options.sizeOf(item);
    return true;
  }

  /** When everybody has been heard who has something at the same time. */
  #sendSoon(): void {
    if (this.#isDue || this.#items.length === 0 || this.#underWay >= this.#few) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      this.#send();
    });
  }

  #send(): void {
    while (this.#items.length > 0 && (this.#underWay < this.#few || this.#isFull())) this.#call();
  }

  /** Whether there is a full call to send, and a place for it. */
  #isFull(): boolean {
    return this.#underWay < Math.max(this.#few, FULL_AT_ONCE) && this.#size >= this.#options.full();
  }

  #call(): void {
    this.#underWay++;
    void this.#options.call(this.#take()).finally(() => {
      this.#underWay--;
      this.#send();
    });
  }

  /** The first items, as many as one call takes, and one in any case. */
  #take(): T[] {
    const { sizeOf, full } = this.#options;
    const most = full();
    let count = 0;
    let size = 0;
    for (; count < this.#items.length; count++) {
      const next = sizeOf(this.#items[count]!);
      if (count > 0 && size + next > most) break;
      size += next;
    }
    this.#size -= size;
    return this.#items.splice(0, count);
  }
}
