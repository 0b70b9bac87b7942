import { asBuffer } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import { SINGLE_CHUNK_LIMIT } from '../blob/service.ts';
import { Digest, DigestHasher, EMPTY_DIGEST } from '../digest.ts';
import { Directory } from '../directory.ts';
import type { LocalReader } from '../local/reader.ts';
import type { FileNode } from '../node.ts';

/** The source of a tree that is written. It is asked in the order of the tree: depth first, by name. */
export interface TreeSource {
  /** Throws DATA_LOSS when the directory is missing or damaged. */
  directory(digest: Digest): Directory | Promise<Directory>;
  /**
   * The contents of a file, checked by the time they end. A part is valid until the next one is asked for.
   * Throws DATA_LOSS when they are missing or damaged.
   */
  contents(file: FileNode): Iterable<Uint8Array> | Promise<AsyncIterable<Uint8Array>>;
}

/**
 * Reads a local store without waiting, into memory that is used again. With `check: false` contents are not
 * hashed, which is for callers that hash the tree themselves.
 */
export class LocalTreeSource implements TreeSource {
  readonly #reader: LocalReader;
  readonly #check: boolean;
  #buffer = Buffer.allocUnsafeSlow(SINGLE_CHUNK_LIMIT);

  constructor(reader: LocalReader, { check = true }: { check?: boolean } = {}) {
    this.#reader = reader;
    this.#check = check;
  }

  directory(digest: Digest): Directory {
    const bytes = this.#reader.directory(digest.bytes);
    if (!bytes) throw damaged(`directory ${digest} is missing from the local store`);
    if (!Digest.hash(bytes).equals(digest)) throw damaged(`the local store's directory ${digest} is damaged`);
    return Directory.decode(bytes);
  }

  *contents({ digest, size }: FileNode): Generator<Uint8Array> {
    const manifest = size <= SINGLE_CHUNK_LIMIT ? undefined : this.#reader.manifest(digest.bytes);
    if (!manifest) {
      yield this.chunk(digest, Number(size));
      return;
    }
    const hasher = this.#check ? new DigestHasher() : undefined;
    for (const chunk of manifest) {
      const bytes = this.chunk(chunk.digest, chunk.size);
      hasher?.update(bytes);
      yield bytes;
    }
    if (hasher && !hasher.digest().equals(digest)) {
      this.#reader.noteRotten(digest);
      throw damaged(`the local store's blob ${digest} is damaged`);
    }
  }

  /** A whole chunk of this size. Valid until the next one is asked for. */
  chunk(digest: Digest, size: number): Uint8Array {
    if (size === 0 && digest.equals(EMPTY_DIGEST)) return this.#buffer.subarray(0, 0);
    // The size is only what somebody said: looked up before memory is taken for it, or a part is taken for the whole.
    if (this.#reader.chunkSize(digest.bytes) !== size) throw missing(digest, size);
    if (size > this.#buffer.length) this.#buffer = Buffer.allocUnsafeSlow(size);
    const bytes = asBuffer(this.#buffer).subarray(0, size);
    if (this.#reader.readChunk(digest.bytes, 0, size, bytes, 0) !== size) {
      if (!this.#reader.isRotten(digest.bytes)) throw missing(digest, size);
      this.#reader.noteRotten(digest);
      throw damaged(`chunk ${digest} is damaged in the local store`);
    }
    return bytes;
  }
}

function missing(digest: Digest, size: number) {
  return damaged(`chunk ${digest} of ${size} bytes is missing from the local store`);
}
