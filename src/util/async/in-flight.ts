/** Work that was begun and is not waited for one by one. Only so much of it is under way at once. */
export class InFlight {
  readonly #most: number;
  #count = 0;
  /** Wakes whoever waits for some of it to end. */
  #landed: (() => void) | undefined;
  #failure: { error: unknown } | undefined;

  constructor(most: number) {
    this.#most = most;
  }

  add(work: Promise<unknown>): void {
    this.#count++;
    const land = () => {
      this.#count--;
      this.#landed?.();
    };
    work.then(land, (error) => {
      this.#failure ??= { error };
      land();
    });
  }

  /** Throws what work failed with first. */
  check(): void {
    if (this.#failure) throw this.#failure.error;
  }

  /** Resolves when there is room for more; for one caller at a time. */
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
