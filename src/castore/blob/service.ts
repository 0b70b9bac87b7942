import { damaged, type StoreError } from '../../util/errors.ts';
import type { Scratch } from '../../util/scratch.ts';
import type { Digest } from '../digest.ts';

/** A blob of at most this many bytes is always a single chunk. */
export const SINGLE_CHUNK_LIMIT = 128 * 1024;

/** A service may cut as it likes, within reason: a chunk is held in memory, so longer ones are not taken, in bytes. */
export const MAX_CHUNK_LENGTH = 16 << 20;

/** A part of a blob. */
export interface Chunk {
  readonly digest: Digest;
  /** Length in bytes. */
  readonly size: number;
}

/**
 * The tree above a blob's groups of 16 KiB, by which parts of the blob are proven (../bao/shape.ts), as somebody keeps it:
 * nobody has checked it but who proves something by it (`OutboardReader`).
 */
export interface Outboard {
  /** In bytes. */
  readonly length: number;
  /** Exactly so many bytes from `offset` on. */
  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array>;
}

/** Contents to be stored. A streamed part must stay unchanged only until the next one is asked for. */
export type BlobContent = Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/**
 * Byte strings of any length, named by their BLAKE3 digest. A call whose signal has fired already does nothing, and
 * throws the signal's reason.
 */
export interface BlobService {
  /**
   * All of a blob of `size` bytes, at most 128 KiB, checked as by `read`; `undefined` when it is not there. Only
   * where that takes no waiting, so that nothing is won by asking ahead.
   */
  readAtOnce?(digest: Digest, size: number, scratch?: Scratch): Uint8Array | undefined;

  /**
   * The chunks that a blob is made of, in order; empty when it is a single chunk or nothing finer is
   * known. `undefined` when the blob is not there. A chunk is found by its digest like a blob.
   */
  chunks(digest: Digest, signal?: AbortSignal): Promise<readonly Chunk[] | undefined>;

  /** As `chunks`, some at a time: a list of all takes as much memory as a file, where nobody needs them at once. */
  chunksInPieces?(digest: Digest, signal?: AbortSignal): Promise<AsyncIterable<readonly Chunk[]> | undefined>;

  /**
   * Whether all of a blob is where puts go, as far as that can be told without reading it: who asks need not put it.
   * `chunks` also tells of copies that are kept elsewhere.
   */
  has(digest: Digest, options?: HasOptions): Promise<boolean>;

  /**
   * The contents from `offset` (bytes, default 0) to the end, in parts of any length. `undefined` when the
   * blob is not there. Reading at or past the end gives nothing. The iteration throws DATA_LOSS, at its end at the
   * latest, when what has come is not what the digest says, or has another length than `size`: at the first byte that is
   * too many. Read from the middle, a large blob may be checked by its chunks alone.
   */
  read(digest: Digest, options?: ReadOptions): Promise<AsyncIterable<Uint8Array> | undefined>;

  /**
   * The outboard of a blob; `undefined` when the blob is not there, or has none. One of a group needs none. With `make` it
   * is made of the whole contents where there is none yet, and kept where that can be: for who serves others, or lives
   * beside the blob. Throws DATA_LOSS when those contents are not what the digest says.
   */
  outboard?(digest: Digest, options?: OutboardOptions): Promise<Outboard | undefined>;

  /** Takes a blob. It is visible and durable once a `flush` that began afterwards has resolved. */
  put(content: BlobContent, options?: PutOptions): Promise<Chunk>;

  /** Makes everything that was put before visible and durable. */
  flush(): Promise<void>;

  /**
   * Names chunks that are there as a blob, whose digest the caller has checked; does nothing when one of them
   * is missing. Only services that keep chunk lists of their own have it.
   */
  assemble?(digest: Digest, chunks: readonly Chunk[]): Promise<void>;
}

export interface PutOptions {
  readonly signal?: AbortSignal | undefined;
  /** Length of the contents in bytes, if it is known: long ones are worth more effort. */
  readonly size?: number;
  /** Digest of contents that come in one piece and have been checked: a service need not hash them again. */
  readonly digest?: Digest;
  /** Gives the contents once more, for when a connection breaks on the way. */
  readonly again?: (() => BlobContent | Promise<BlobContent>) | undefined;
  /** Whether `has` has just said that it is not there, so that a far service need not be asked again. */
  readonly isMissing?: boolean;
}

export interface OutboardOptions {
  readonly make?: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface HasOptions {
  /** Length of the blob, if it is known: tells where it is likely to be. */
  readonly size?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ReadOptions {
  readonly offset?: number;
  /** Length of the blob, if it is known: a short one may come in one piece. */
  readonly size?: number;
  /** Where a part may lie; then it is valid until the next is asked for, of this or another read. */
  readonly scratch?: Scratch | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The error for contents that are longer or shorter than they should be. */
export function anotherSize({ digest, size }: { digest: Digest; size: number | bigint }): StoreError {
  return damaged(`blob ${digest} has another size than ${size}`);
}
