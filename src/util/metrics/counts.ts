import type { Distribution } from './distribution.ts';
import { DISTRIBUTION_LENGTH, distributionIn, observe } from './distribution.ts';

/** Counts by kind. Of kinds there must be few, whatever a peer asks for. */
export class Counts {
  readonly #counts = new Map<string, number>();

  add(kind: string, count = 1): void {
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + count);
  }

  all(): ReadonlyMap<string, number> {
    return this.#counts;
  }
}

/** How long things took, by kind; likewise. */
export class Latencies {
  readonly #memories = new Map<string, Float64Array>();

  /** Something took so long, in milliseconds. */
  observe(kind: string, ms: number): void {
    let memory = this.#memories.get(kind);
    if (!memory) {
      memory = new Float64Array(DISTRIBUTION_LENGTH);
      this.#memories.set(kind, memory);
    }
    observe(memory, 0, ms);
  }

  all(): ReadonlyMap<string, Distribution> {
    return new Map([...this.#memories].map(([kind, memory]) => [kind, distributionIn([memory], 0)]));
  }
}

/** Something that has begun. */
export interface Begun {
  /** By `performance.now()`. */
  readonly at: number;
}

/** What is under way. */
export class UnderWay {
  /** In the order in which they began. */
  readonly #all = new Set<Begun>();

  begin(): Begun {
    const begun = { at: performance.now() };
    this.#all.add(begun);
    return begun;
  }

  /** Gives how long it took, in milliseconds. */
  end(begun: Begun): number {
    this.#all.delete(begun);
    return performance.now() - begun.at;
  }

  get count(): number {
    return this.#all.size;
  }

  get oldest(): Begun | undefined {
    const [oldest] = this.#all;
    return oldest;
  }
}
