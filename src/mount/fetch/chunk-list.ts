import type { Chunk } from '../../castore/blob/service.ts';

/** Chunks of a list, from `first` up to `end`. */
export interface ChunkRange {
  readonly first: number;
  readonly end: number;
}

/** The chunk list of a blob, and what of it is still to come. */
export class ChunkList {
  readonly chunks: readonly Chunk[];
  /** Whether the whole blob has yet to be hashed: a peer's list is not to be believed. */
  provisional: boolean;
  readonly #ends: Float64Array;
  readonly #missing = new Set<string>();
  /** Bytes of the chunks that are still to come, each counted once. */
  missingBytes = 0;

  constructor(chunks: readonly Chunk[], provisional: boolean, isLocal: (chunk: Chunk) => boolean) {
    this.chunks = chunks;
    this.provisional = provisional;
    this.#ends = new Float64Array(chunks.length);
    let end = 0;
    for (const [i, chunk] of chunks.entries()) {
      end += chunk.size;
      this.#ends[i] = end;
      if (this.#missing.has(chunk.digest.hex) || isLocal(chunk)) continue;
      this.#missing.add(chunk.digest.hex);
      this.missingBytes += chunk.size;
    }
  }

  /** Length of the blob in bytes. */
  get size(): number {
    return this.start(this.chunks.length);
  }

  /** Where a chunk begins, in bytes. */
  start(index: number): number {
    return index === 0 ? 0 : this.#ends[index - 1]!;
  }

  /** Notes that a chunk is there. */
  arrived({ digest, size }: Chunk): void {
    if (this.#missing.delete(digest.hex)) this.missingBytes -= size;
  }

  /** Whether all of the blob is there. */
  isComplete(): boolean {
    return this.#missing.size === 0;
  }

  isMissing({ digest }: Chunk): boolean {
    return this.#missing.has(digest.hex);
  }

  /** Which chunks hold a part of the blob. */
  overlapping(offset: number, length: number): ChunkRange {
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
