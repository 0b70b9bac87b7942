import { isDamage, messageOf } from '../errors.ts';
import { log } from '../log.ts';

/** How long something that failed is left alone, in milliseconds. */
const PAUSE_MS = 10_000;
/** Work that may be under way at once that nobody waits for. */
const MAX_LATER = 256;

/** Work on something that others can do without: its failures are told once, and it is left alone for a while. */
export class Tolerant {
  readonly #what: string;
  readonly #later = new Set<Promise<unknown>>();
  #told = false;
  #until = 0;

  /** `what` is said of a failure, as in "cannot fill the cache". */
  constructor(what: string) {
    this.#what = what;
  }

  get paused(): boolean {
    return performance.now() < this.#until;
  }

  /** The outcome, or `undefined` when it failed or was not tried. Throws only when the caller's signal has fired. */
  async try<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T | undefined> {
    if (this.paused) return undefined;
    try {
      return await work();
    } catch (error) {
      signal?.throwIfAborted();
      this.failed(error);
      return undefined;
    }
  }

  /** Does it while the caller goes on, unless too much is under way already. */
  later(work: () => Promise<unknown>): void {
    if (this.#later.size >= MAX_LATER) return;
    const done = this.try(work).finally(() => this.#later.delete(done));
    this.#later.add(done);
  }

  /** Notes a failure. One that concerns a single damaged object is no reason to leave the rest alone. */
  failed(error: unknown): void {
    if (!this.#told) log.warn(`${this.#what}; going on without it`, { error: messageOf(error) });
    this.#told = true;
    if (!isDamage(error)) this.#until = performance.now() + PAUSE_MS;
  }

  /** Resolves when nothing is under way that was begun by `later`. */
  async settle(): Promise<void> {
    await Promise.all(this.#later);
  }
}
