import { toBigInt } from '../../proto/long.ts';
import { tvix } from '../../proto/messages.ts';
import { mapAhead } from '../../util/async/iterables.ts';
import { SharedAhead } from '../../util/async/shared-ahead.ts';
import { SingleFlight } from '../../util/async/single-flight.ts';
import { zstdCompress, zstdDecompress } from '../../util/compression/zstd.ts';
import { damaged, ifDamaged, type StoreError, WrongContents } from '../../util/errors.ts';
import { Digest, DigestHasher, EMPTY_DIGEST } from '../digest.ts';
import type { FileNode } from '../node.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import { keyOf } from '../objects/object-store.ts';
import { Reliance } from '../objects/reliance.ts';
import { encodeChunkList } from './chunk-list.ts';
import { ObjectOutboards } from './object-outboards.ts';
import { chunksFrom, skipped } from './offset.ts';
import { chunkerFor } from './parallel-chunker.ts';
import type {
  BlobContent,
  BlobService,
  Chunk,
  HasOptions,
  Outboard,
  OutboardOptions,
  PutOptions,
  ReadOptions,
} from './service.ts';
import { anotherSize, MAX_CHUNK_LENGTH, SINGLE_CHUNK_LIMIT } from './service.ts';

/** The largest object of a chunk, in bytes: one that does not compress gets a little larger. */
const MAX_CHUNK_OBJECT = MAX_CHUNK_LENGTH + (1 << 20);
/** A chunk list of a blob of more than a terabyte. */
const MAX_INDEX_OBJECT = 256 << 20;
/** Chunks of one blob that are on their way at once, and of all, beyond one of each. */
const SENT_AT_ONCE = 32;
const READ_AT_ONCE = 8;
const AHEAD = 64;

/**
 * Blobs among objects, as tvix and snix lay them out: `chunks/b3/<4 digits>/<64 digits>` is a chunk, compressed by
 * zstd; `blobs/b3/…` is the list of a blob's chunks, an encoded StatBlobResponse, which is written last and only
 * for several chunks, or empty for the empty blob. A blob of one chunk is that chunk; others write an empty list
 * for it as well.
 */
export class ObjectStoreBlobService implements BlobService {
  readonly #objects: ObjectStore;
  readonly #flights = new SingleFlight<void>();
  readonly #sent = new SharedAhead(AHEAD);
  readonly #read = new SharedAhead(AHEAD);
  readonly #reliance: Reliance;
  readonly #outboards: ObjectOutboards;

  constructor(objects: ObjectStore, reliance = new Reliance(objects)) {
    this.#objects = objects;
    this.#outboards = new ObjectOutboards(objects);
    this.#reliance = reliance;
  }

  async chunks(digest: Digest, signal?: AbortSignal): Promise<readonly Chunk[] | undefined> {
    if (digest.equals(EMPTY_DIGEST)) return [];
    const list = await this.#list(digest, signal);
    if (list) return list.length > 1 ? list : [];
    return (await this.#objects.facts(keyOf('chunks', digest), signal)) ? [] : undefined;
  }

  /** What is damaged, as far as that can be seen, is not there: it is put again. */
  async has(digest: Digest, { size = 0, signal }: HasOptions = {}): Promise<boolean> {
    if (digest.equals(EMPTY_DIGEST)) return this.#isThere(keyOf('blobs', digest), signal);
    const isChunk = () => this.#isThere(keyOf('chunks', digest), signal);
    const isListed = async () => {
      const chunks = await this.#list(digest, signal).catch(ifDamaged);
      if (!chunks || chunks.length === 0) return false;
      const find = (one: Chunk) => this.#isThere(keyOf('chunks', one.digest), signal);
      for await (const isThere of mapAhead(chunks, SENT_AT_ONCE, find)) if (!isThere) return false;
      return true;
    };
    if (size > SINGLE_CHUNK_LIMIT) return (await isListed()) || isChunk();
    return (await isChunk()) || isListed();
  }

  async #isThere(key: string, signal: AbortSignal | undefined): Promise<boolean> {
    const facts = await this.#objects.facts(key, signal);
    return facts !== undefined && (facts.size > 0 || key.startsWith('blobs/'));
  }

  async outboard(digest: Digest, { make, signal }: OutboardOptions = {}): Promise<Outboard | undefined> {
    return (
      (await this.#outboards.kept(digest, signal)) ??
      (make ? this.#outboards.make(this, digest, signal) : undefined)
    );
  }

  async read(digest: Digest, options: ReadOptions = {}): Promise<AsyncIterable<Uint8Array> | undefined> {
    const { offset = 0, size = 0, signal } = options;
    if (digest.equals(EMPTY_DIGEST)) return from(new Uint8Array(), 0);
    const single = async () => {
      const bytes = await this.#chunk(digest, size || MAX_CHUNK_LENGTH, signal);
      return bytes && from(bytes, offset);
    };
    const several = async () => {
      const list = await this.#list(digest, signal);
      if (!list || list.length < 2) return undefined;
      if (size > 0 && list.reduce((sum, chunk) => sum + chunk.size, 0) !== size)
        throw anotherSize({ digest, size });
      return this.#parts(digest, list, offset, signal);
    };
    if (size > SINGLE_CHUNK_LIMIT) return (await several()) ?? single();
    return (await single()) ?? several();
  }

  /**
   * All of it is checked against the digest at the end. From an offset on, only the chunks are, each against
   * its own.
   */
  async *#parts(
    digest: Digest,
    chunks: readonly Chunk[],
    offset: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array> {
    const { wanted, skip } = chunksFrom(chunks, offset);
    const hasher = offset === 0 ? new DigestHasher() : undefined;
    const read = async ({ digest: one, size }: Chunk) => {
      const bytes = await this.#chunk(one, size, signal);
      if (!bytes) throw damaged(`${this.#objects.address}: chunk ${one} of blob ${digest} is missing`);
      if (bytes.length !== size) throw this.#wrong(digest);
      return bytes;
    };
    const ahead = this.#read.map(wanted, READ_AT_ONCE, read);
    const parts = async function* () {
      for await (const bytes of ahead) {
        hasher?.update(bytes);
        yield bytes;
      }
    };
    yield* skipped(parts(), skip);
    if (hasher && !hasher.digest().equals(digest)) {
      this.#reliance.forget(keyOf('blobs', digest));
      throw this.#wrong(digest);
    }
  }

  /** A chunk of at most `limit` bytes. */
  async #chunk(digest: Digest, limit: number, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    const key = keyOf('chunks', digest);
    return this.#noticing(key, async () => {
      const object = await this.#objects.get(key, MAX_CHUNK_OBJECT, signal);
      if (!object) return undefined;
      const bytes = this.#decoding(digest, () =>
        zstdDecompress(object.bytes, Math.min(limit, MAX_CHUNK_LENGTH)),
      );
      if (!Digest.hash(bytes).equals(digest)) throw this.#wrong(digest);
      return bytes;
    });
  }

  /** Reads an object. Nobody relies on one any more that is damaged, or not there. */
  async #noticing<T>(key: string, read: () => Promise<T | undefined>): Promise<T | undefined> {
    let found: T | undefined;
    try {
      found = await read();
      return found;
    } finally {
      if (found === undefined) this.#reliance.forget(key);
    }
  }

  #list(digest: Digest, signal?: AbortSignal): Promise<Chunk[] | undefined> {
    const key = keyOf('blobs', digest);
    return this.#noticing(key, async () => {
      const object = await this.#objects.get(key, MAX_INDEX_OBJECT, signal);
      return object && this.#readList(digest, object.bytes);
    });
  }

  #readList(digest: Digest, encoded: Uint8Array): Chunk[] {
    const { chunks } = this.#decoding(digest, () => tvix.castore.v1.StatBlobResponse.decode(encoded));
    return chunks.map(({ digest: bytes, size }) => {
      const chunk = {
        digest: this.#decoding(digest, () => Digest.of(Uint8Array.from(bytes ?? []))),
        size: Number(toBigInt(size)),
      };
      if (chunk.size > MAX_CHUNK_LENGTH) throw this.#wrong(digest);
      return chunk;
    });
  }

  #decoding<T>(digest: Digest, decode: () => T): T {
    try {
      return decode();
    } catch (error) {
      throw this.#wrong(digest, error);
    }
  }

  #wrong(digest: Digest, cause?: unknown): StoreError {
    return new WrongContents(`${this.#objects.address} holds something else as blob ${digest}`, { cause });
  }

  async put(content: BlobContent, { signal, size: expected = 0 }: PutOptions = {}): Promise<Chunk> {
    signal?.throwIfAborted();
    if (content instanceof Uint8Array && content.length <= SINGLE_CHUNK_LIMIT) {
      const digest = Digest.hash(content);
      await this.#send(digest, content, signal);
      return { digest, size: content.length };
    }
    const chunker = chunkerFor(expected);
    const chunks: Chunk[] = [];
    let size = 0;
    const send = async (bytes: Uint8Array) => {
      signal?.throwIfAborted();
      const digest = Digest.hash(bytes);
      chunks.push({ digest, size: bytes.length });
      size += bytes.length;
      // The next chunk takes its place.
      await this.#send(digest, Uint8Array.from(bytes), signal);
    };
    try {
      const parts = chunker.chunks(content instanceof Uint8Array ? [content] : content);
      for await (const _ of this.#sent.map(parts, SENT_AT_ONCE, send));
      if (chunks.length === 1) return chunks[0]!;
      const digest = chunker.digest();
      await this.#sendList(digest, chunks, signal);
      return { digest, size };
    } finally {
      chunker.close();
    }
  }

  /** Whether a blob is there with all its chunks, and stays there for as long as an upload takes: see `Reliance`. */
  async keep({ digest, size }: FileNode, signal?: AbortSignal): Promise<boolean> {
    // Where it is likely to be comes first.
    if (size > SINGLE_CHUNK_LIMIT)
      return (await this.#keepList(digest, signal)) || this.#keepChunk(digest, signal);
    return (await this.#keepChunk(digest, signal)) || this.#keepList(digest, signal);
  }

  #keepChunk(digest: Digest, signal: AbortSignal | undefined): Promise<boolean> {
    return this.#reliance.keep(keyOf('chunks', digest), MAX_CHUNK_OBJECT, signal);
  }

  async #keepList(digest: Digest, signal: AbortSignal | undefined): Promise<boolean> {
    if (!(await this.#reliance.keep(keyOf('blobs', digest), MAX_INDEX_OBJECT, signal))) return false;
    if (digest.equals(EMPTY_DIGEST)) return true;
    const chunks = (await this.#list(digest, signal).catch(ifDamaged)) ?? [];
    // Others write an empty list for a blob of one chunk.
    if (chunks.length === 0) return this.#keepChunk(digest, signal);
    for await (const isThere of mapAhead(chunks, SENT_AT_ONCE, (one) => this.#keepChunk(one.digest, signal)))
      if (!isThere) return false;
    return true;
  }

  async #sendList(digest: Digest, chunks: readonly Chunk[], signal: AbortSignal | undefined): Promise<void> {
    const make = () => encodeChunkList(chunks);
    await this.#reliance.putOnce(keyOf('blobs', digest), 0, make, signal);
  }

  /** Sends a chunk unless it is known to be there; the empty one is a list without chunks. */
  async #send(digest: Digest, bytes: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const send = async (shared: AbortSignal) => {
      const isEmpty = bytes.length === 0;
      const key = keyOf(isEmpty ? 'blobs' : 'chunks', digest);
      await this.#reliance.putOnce(key, bytes.length, () => (isEmpty ? bytes : zstdCompress(bytes)), shared);
    };
    await this.#flights.run(digest.hex, send, signal);
  }

  /** A put is acknowledged when it is durable. */
  async flush(): Promise<void> {}
}

async function* from(bytes: Uint8Array, offset: number): AsyncGenerator<Uint8Array> {
  if (offset < bytes.length) yield offset > 0 ? bytes.subarray(offset) : bytes;
}
