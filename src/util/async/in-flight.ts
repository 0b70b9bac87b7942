/** Limits how much of one caller's work is under way at once, and keeps the first failure of it. */
export class InFlight {
  readonly #most: number;
  readonly #onFailure: (() => void) | undefined;
  #count = 0;
  /** Wakes the caller that waits for some of it to end. */
  #landed: (() => void) | undefined;
  #failure: { error: unknown } | undefined;

  /** `most`: of what the work counts together. `onFailure` is called once, at the first failure. */
  constructor(most: number, onFailure?: () => void) {
    this.#most = most;
    this.#onFailure = onFailure;
  }

  /** Takes work that has begun. `weight`: what it counts. */
  add(work: Promise<unknown>, weight = 1): void {
    this.#count += weight;
    const land = () => {
      this.#count -= weight;
      this.#landed?.();
    };
    work.then(land, (error) => {
      this.fail(error);
      land();
    });
  }

  /** Notes a failure. */
  fail(error: unknown): void {
    if (this.#failure) return;
    this.#failure = { error };
    this.#onFailure?.();
  }

  /** Throws the first failure, if there was one. */
  check(): void {
    if (this.#failure) throw this.#failure.error;
  }

  /** Resolves when there is room for more. One caller may wait at a time. */
  async room(): Promise<void> {
    await this.#fewerThan(this.#most);
  }

  /** Resolves when all of it has ended, well or not. */
  async ended(): Promise<void> {
    await this.#fewerThan(1);
  }

  async #fewerThan(limit: number): Promise<void> {
    while (this.#count >= limit) {
      await new Promise<void>((resolve) => {
        this.#landed = resolve;
      });
    }
  }
}
