import type { Holding } from '../shares/holding.ts';
import type { Call } from './call.ts';

/** An encoded answer that any number of calls send: it lies in memory once, and counts as one call's. */
export class SharedAnswer {
  readonly #parts: readonly Uint8Array[];
  /** In bytes. */
  readonly length: number;
  readonly #holdings: Holding[] = [];

  constructor(parts: readonly Uint8Array[]) {
    this.#parts = parts;
    this.length = lengthOf(parts);
  }

  /** Answers a call with it. */
  async send(call: Call): Promise<void> {
    const { holding } = call;
    if (this.#holdings.push(holding) === 1) holding.add(this.length);
    try {
      await call.send(this.#parts, false);
      await call.end();
    } finally {
      const isCounted = this.#holdings[0] === holding;
      this.#holdings.splice(this.#holdings.indexOf(holding), 1);
      if (isCounted) {
        holding.give(this.length);
        this.#holdings[0]?.add(this.length);
      }
    }
  }
}

export function lengthOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}
