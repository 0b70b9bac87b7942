/** How often it is looked at what has come, in milliseconds, and how many bytes should have come since. */
const INTERVAL_MS = 3000;
const LEAST_BYTES = 4096;

/** Watches whether something comes as fast as even a slow line would bring it. */
export class Pace {
  readonly #timer: NodeJS.Timeout;
  #arrived = 0;

  /** `onSlow` is called at every look that finds too little. */
  constructor(onSlow: () => void) {
    this.#timer = setInterval(() => {
      if (this.#arrived < LEAST_BYTES) onSlow();
      this.#arrived = 0;
    }, INTERVAL_MS).unref();
  }

  /** What comes is to be looked at from now on. */
  restart(): void {
    this.#arrived = 0;
    this.#timer.refresh();
  }

  arrived(bytes: number): void {
    this.#arrived += bytes;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
