import type { Chunk } from '../../castore/blob/service.ts';

/** The chunk list of a blob, and what of it is still to come. */
export class ChunkList {
  readonly chunks: readonly Chunk[];
  /** Whether the whole blob has yet to be hashed: a peer's list is not to be believed. */
  provisional: boolean;
  readonly #ends: Float64Array;
  readonly #missing: Set<string>;

  constructor(chunks: readonly Chunk[], provisional: boolean, isLocal: (chunk: Chunk) => boolean) {
    this.chunks = chunks;
    this.provisional = provisional;
    this.#ends = new Float64Array(chunks.length);
    let end = 0;
    for (const [i, chunk] of chunks.entries()) {
      end += chunk.size;
      this.#ends[i] = end;
    }
    this.#missing = new Set(chunks.filter((chunk) => !isLocal(chunk)).map(({ digest }) => digest.hex));
  }

  /** Notes that a chunk is there. */
  arrived({ digest }: Chunk): void {
    this.#missing.delete(digest.hex);
  }

  /** Whether all of the blob is there. */
  isComplete(): boolean {
    return this.#missing.size === 0;
  }

  isMissing({ digest }: Chunk): boolean {
    return this.#missing.has(digest.hex);
  }

  /** Which chunks hold a part of the blob: from `first` up to `end`. */
  overlapping(offset: number, length: number): { first: number; end: number } {
    const first = this.#indexAt(offset);
    return { first, end: Math.min(this.#indexAt(offset + length - 1) + 1, this.chunks.length) };
  }

  /** Index of the chunk in which an offset lies. */
  #indexAt(offset: number): number {
    let low = 0;
    let high = this.#ends.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ends[middle]! > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
