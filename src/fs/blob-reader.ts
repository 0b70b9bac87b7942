import { LRUCache } from 'lru-cache';
import type { Groups } from '../castore/bao/group-set.ts';
import { GroupSet, groupsOver } from '../castore/bao/group-set.ts';
import { DEFAULT_CUTTER } from '../castore/blob/cutter-options.ts';
import type { Chunk } from '../castore/blob/service.ts';
import { asBuffer, latin1, toHex } from '../util/bytes.ts';
import { damaged } from '../util/errors.ts';
import type { FilePart } from '../util/system/file-splice.ts';
import type { Source } from './source.ts';

/** Chunk lists kept, counted in chunks. */
const MAX_CACHED_CHUNKS = 1 << 16;
const MAX_REFUSED = 10_000;
/** Whoever has read so many bytes in order is expected to go on. */
const LONG_RUN = 2 << 20;
/** The kernel's own reads ahead come in any order, so many bytes apart. */
const SAME_RUN = 1 << 20;
/** Chunks expected behind the one that is read. */
const EXPECTED = 8;

/** A chunk list, with where each chunk ends. */
interface Manifest {
  readonly chunks: readonly Chunk[];
  readonly ends: Float64Array;
  /** Where the last read ended, how many bytes were read in order, and the first chunk that is not expected yet. */
  last: number;
  run: number;
  expected: number;
}

/** Reads blobs from what is local. */
export class BlobReader {
  readonly #source: Source;
  readonly #manifests = new LRUCache<string, Manifest>({
    maxSize: MAX_CACHED_CHUNKS,
    sizeCalculation: ({ chunks }) => chunks.length + 1,
  });
  /** Blobs whose list is wrong, whatever the store still says of it: it learns later than we do. */
  readonly #refused = new Set<string>();
  /** What has been proven of blobs whose list is not: no more than that is read of them. */
  readonly #proven = new Map<string, GroupSet>();

  constructor(source: Source) {
    this.#source = source;
  }

  /**
   * Copies `length` bytes from `offset`, which must lie within the blob of `size` bytes, into `out` at `at`.
   * `undefined` when a part is not local. Throws DATA_LOSS when the sizes do not fit.
   */
  read(
    digest: Uint8Array,
    size: number,
    offset: number,
    length: number,
    out: Uint8Array,
    at: number,
  ): number | undefined {
    if (size <= DEFAULT_CUTTER.max) {
      const count = this.#source.readChunk(digest, offset, length, out, at);
      if (count !== undefined) {
        if (count !== length) throw damaged(`blob ${toHex(digest)} is shorter than its size ${size}`);
        return count;
      }
    }
    const manifest = this.#manifest(digest, size);
    if (!manifest || !this.#mayRead(digest, offset, length)) return undefined;
    let done = 0;
    for (const { chunk, within, length: wanted } of piecesOf(manifest, offset, length)) {
      const count = this.#source.readChunk(chunk.digest.bytes, within, wanted, out, at + done);
      if (count === undefined) return undefined;
      if (count !== wanted) throw damaged(`chunk ${chunk.digest.hex} is shorter than its size ${chunk.size}`);
      done += count;
    }
    this.#expect(manifest, offset, length);
    return length;
  }

  /** The parts of files that hold a range as `read` takes it, in order; none unless they hold all of it. */
  inFiles(digest: Uint8Array, size: number, offset: number, length: number): FilePart[] {
    const single = size <= DEFAULT_CUTTER.max ? this.#source.chunkFile(digest) : undefined;
    if (single) return single.size === size ? [{ fd: single.fd, offset, length }] : [];
    const manifest = this.#manifest(digest, size);
    if (!manifest || !this.#mayRead(digest, offset, length)) return [];
    const parts: FilePart[] = [];
    for (const { chunk, within, length: wanted } of piecesOf(manifest, offset, length)) {
      const file = this.#source.chunkFile(chunk.digest.bytes);
      if (file?.size !== chunk.size) return [];
      parts.push({ fd: file.fd, offset: within, length: wanted });
    }
    this.#expect(manifest, offset, length);
    return parts;
  }

  /** Has the source make ready what a reader in order comes to behind what it has read. */
  #expect(manifest: Manifest, offset: number, length: number): void {
    const { chunks, ends, last } = manifest;
    if (Math.abs(offset - last) > SAME_RUN) {
      manifest.run = 0;
      manifest.expected = 0;
    }
    manifest.run += length;
    manifest.last = offset + length;
    if (manifest.run < LONG_RUN) return;
    const index = firstAfter(ends, offset + length);
    const end = Math.min(index + EXPECTED, chunks.length);
    let next = Math.max(manifest.expected, index);
    while (next < end && this.#source.expect(chunks[next]!.digest.bytes)) next++;
    manifest.expected = next;
  }

  #mayRead(digest: Uint8Array, offset: number, length: number): boolean {
    if (this.#proven.size === 0) return true;
    return this.#proven.get(latin1(asBuffer(digest)))?.hasAll(groupsOver(offset, length)) ?? true;
  }

  /** Takes note of another chunk list of a blob. Of one that is proven in parts, `proven` tells which may be read. */
  admit(digest: Uint8Array, isProvenInParts = false): void {
    const key = latin1(asBuffer(digest));
    this.#refused.delete(key);
    if (!isProvenInParts) this.#proven.delete(key);
    else if (!this.#proven.has(key)) {
      this.#proven.set(key, new GroupSet());
      this.#manifests.delete(key);
    }
  }

  /** Takes note that a part of a blob has been proven. */
  proven(digest: Uint8Array, groups: Groups): void {
    this.#proven.get(latin1(asBuffer(digest)))?.add(groups);
  }

  /** A chunk list is no longer there but in the store: one that was proven in parts never gets there. */
  settled(digest: Uint8Array): void {
    const key = latin1(asBuffer(digest));
    if (this.#proven.delete(key)) this.#manifests.delete(key);
  }

  /** Reads nothing more of a blob by the chunk list that there is. */
  refuse(digest: Uint8Array): void {
    const key = latin1(digest);
    if (this.#refused.size < MAX_REFUSED) this.#refused.add(key);
    this.#manifests.delete(key);
    this.#proven.delete(key);
  }

  #manifest(digest: Uint8Array, size: number): Manifest | undefined {
    const key = latin1(asBuffer(digest));
    const cached = this.#manifests.get(key);
    if (cached) return cached;
    if (this.#refused.has(key)) return undefined;
    const chunks = this.#source.manifest(digest);
    if (!chunks) return undefined;
    const ends = new Float64Array(chunks.length);
    let end = 0;
    for (const [i, chunk] of chunks.entries()) {
      end += chunk.size;
      ends[i] = end;
    }
    if (end !== size) throw damaged(`the chunks of blob ${toHex(digest)} have ${end} bytes, want ${size}`);
    const manifest = { chunks, ends, last: 0, run: 0, expected: 0 };
    this.#manifests.set(key, manifest);
    return manifest;
  }
}

/** A part of a chunk, in bytes. */
interface Piece {
  readonly chunk: Chunk;
  readonly within: number;
  readonly length: number;
}

/** The parts of chunks that a range consists of. */
function* piecesOf({ chunks, ends }: Manifest, offset: number, length: number): Generator<Piece> {
  const end = offset + length;
  let at = offset;
  for (let index = firstAfter(ends, offset); at < end; index++) {
    const chunk = chunks[index]!;
    const within = at - (ends[index]! - chunk.size);
    const piece = { chunk, within, length: Math.min(end, ends[index]!) - at };
    at += piece.length;
    yield piece;
  }
}

/** Index of the first end that lies behind `offset`. */
function firstAfter(ends: Float64Array, offset: number): number {
  let low = 0;
  let high = ends.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ends[middle]! > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}
