import { setImmediate as turn } from 'node:timers/promises';
import type { LocalReader } from '../../castore/local/reader.ts';

/**
 * Hashes the chunks that a serving thread is about to read of a large file, so that it need not: it does so itself for
 * those that are not ready in time.
 */
export class CheckAhead {
  readonly #reader: LocalReader;
  #waiting: Uint8Array[] = [];
  #running = false;

  constructor(reader: LocalReader) {
    this.#reader = reader;
  }

  /** Takes digests in the order in which they will be read. Those of before that are not done are given up. */
  check(digests: readonly Uint8Array[]): void {
    this.#waiting = [...digests];
    if (!this.#running) void this.#run();
  }

  async #run(): Promise<void> {
    this.#running = true;
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      this.#reader.check(next);
      await turn();
    }
    this.#running = false;
  }
}
