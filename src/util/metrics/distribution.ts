/** Upper bounds of the buckets, in milliseconds: from a request that finds all in memory to one that takes minutes. */
export const BOUNDS_MS: readonly number[] = [
  0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000,
];

const SUM = BOUNDS_MS.length + 1;
/** Words of memory that a distribution takes: a bucket for each bound, one for what is above, and the sum. */
export const DISTRIBUTION_LENGTH: number = SUM + 1;

/** How long things took. */
export interface Distribution {
  /** How many were within each bound and above the one before; the last is for those above all. */
  readonly buckets: readonly number[];
  readonly sumMs: number;
}

/** Counts something that took so long, in milliseconds, in the distribution that begins at a word of some memory. */
export function observe(memory: Float64Array, at: number, ms: number): void {
  let bucket = 0;
  while (bucket < SUM - 1 && ms > BOUNDS_MS[bucket]!) bucket++;
  memory[at + bucket]!++;
  memory[at + SUM]! += ms;
}

/** Sums up the distributions that begin at the same word of several memories. */
export function distributionIn(memories: readonly Float64Array[], at: number): Distribution {
  const sum = (word: number) => memories.reduce((total, memory) => total + memory[at + word]!, 0);
  return { buckets: Array.from({ length: SUM }, (_, bucket) => sum(bucket)), sumMs: sum(SUM) };
}

export function countOf({ buckets }: Distribution): number {
  return buckets.reduce((sum, count) => sum + count, 0);
}
