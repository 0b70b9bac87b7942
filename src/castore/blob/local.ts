import { SingleFlight } from '../../util/async/single-flight.ts';
import { Turns } from '../../util/async/turns.ts';
import { damaged, isDamage } from '../../util/errors.ts';
import type { Scratch } from '../../util/scratch.ts';
import { makeOutboard } from '../bao/whole.ts';
import { Digest, DigestHasher } from '../digest.ts';
import { SoundChunks } from '../local/sound-chunks.ts';
import type { LocalStore } from '../local/store.ts';
import { LocalOutboards } from './local-outboards.ts';
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
import { SINGLE_CHUNK_LIMIT } from './service.ts';

/** Chunks of a list that are made at once. */
const PIECE = 1000;

let chunker: Promise<typeof import('./parallel-chunker.ts')> | undefined;

/** Loads what cuts large contents: when they come, or before, for whoever could not do so then. */
export function loadChunker(): Promise<typeof import('./parallel-chunker.ts')> {
  chunker ??= import('./parallel-chunker.ts');
  return chunker;
}

/** Blobs in a local store. */
export class LocalBlobService implements BlobService {
  readonly #store: LocalStore;
  /** Blobs whose chunk lists have been found right: their chunks need not be hashed together again. */
  readonly #proven = new SoundChunks();
  readonly #outboards: LocalOutboards;
  readonly #made = new SingleFlight<Outboard | undefined>();

  constructor(store: LocalStore) {
    this.#store = store;
    this.#outboards = new LocalOutboards(store);
  }

  async chunks(digest: Digest, signal?: AbortSignal): Promise<readonly Chunk[] | undefined> {
    const pieces = await this.chunksInPieces(digest, signal);
    if (!pieces) return undefined;
    const list: Chunk[] = [];
    for await (const piece of pieces) list.push(...piece);
    return list;
  }

  async chunksInPieces(
    digest: Digest,
    signal?: AbortSignal,
  ): Promise<AsyncIterable<readonly Chunk[]> | undefined> {
    signal?.throwIfAborted();
    const { env, reader } = this.#store;
    const listed = reader.manifestChunks(digest.bytes);
    if (listed && env.rotten.has(digest.bytes)) return undefined;
    if (!listed && reader.chunkSize(digest.bytes) === undefined) return undefined;
    // Whoever asks for this before an upload will leave it out.
    const isThere = await this.#store.noting(
      () => this.#store.writer.hasBlob(digest.bytes, listed, signal),
      () => true,
    );
    return isThere ? inPieces(listed ?? [], signal) : undefined;
  }

  /** What is damaged is not there: it is put again. */
  async has(digest: Digest, { signal }: HasOptions = {}): Promise<boolean> {
    try {
      return (await this.chunksInPieces(digest, signal)) !== undefined;
    } catch (error) {
      if (isDamage(error)) return false;
      throw error;
    }
  }

  async read(digest: Digest, options: ReadOptions = {}): Promise<AsyncIterable<Uint8Array> | undefined> {
    options.signal?.throwIfAborted();
    const { reader } = this.#store;
    if (options.size !== undefined && options.size <= SINGLE_CHUNK_LIMIT) {
      const bytes = this.readAtOnce(digest, options.size, options.scratch);
      return bytes && one(bytes.subarray(options.offset ?? 0));
    }
    const chunks = reader.manifestChunks(digest.bytes);
    if (chunks) return this.#listed(digest, chunks, options);
    const size = reader.chunkSize(digest.bytes);
    return size === undefined ? undefined : this.#read([{ digest, size }], options);
  }

  /**
   * A blob of several chunks. Nothing but its hash says that the list is right, and it is hashed when this process first
   * reads all of it; before its first byte, if somebody has found it wrong.
   */
  async #listed(
    digest: Digest,
    chunks: Iterable<Chunk>,
    options: ReadOptions,
  ): Promise<AsyncGenerator<Uint8Array>> {
    const { env, reader } = this.#store;
    if (env.rotten.has(digest.bytes)) {
      for await (const _ of this.#hashed(digest, chunks, options));
      return this.#read(reader.manifestChunks(digest.bytes) ?? [], options);
    }
    const isPart = (options.offset ?? 0) > 0;
    return isPart || this.#proven.has(digest.bytes)
      ? this.#read(chunks, options)
      : this.#hashed(digest, chunks, options);
  }

  async *#hashed(
    digest: Digest,
    chunks: Iterable<Chunk>,
    { scratch, signal }: ReadOptions,
  ): AsyncGenerator<Uint8Array> {
    const hasher = new DigestHasher();
    for await (const bytes of this.#read(chunks, { scratch, signal })) {
      hasher.update(bytes);
      yield bytes;
    }
    if (!hasher.digest().equals(digest)) {
      this.#store.env.rotten.note(digest);
      throw damaged(`the chunks of blob ${digest} make another blob in the local store`);
    }
    this.#proven.add(digest.bytes);
  }

  async *#read(
    chunks: Iterable<Chunk>,
    { offset = 0, scratch, signal }: ReadOptions,
  ): AsyncGenerator<Uint8Array> {
    const hold = this.#store.env.useListener?.hold();
    try {
      if (hold) for (const { digest } of chunks) hold.add(digest.bytes);
      let position = 0;
      for (const { digest, size } of chunks) {
        signal?.throwIfAborted();
        const from = Math.max(0, offset - position);
        position += size;
        if (from >= size) continue;
        const bytes = this.#chunk(digest, size, scratch);
        if (!bytes) throw damaged(`chunk ${digest} is missing from the local store`);
        yield from > 0 ? bytes.subarray(from) : bytes;
      }
    } finally {
      hold?.release();
    }
  }

  readAtOnce(digest: Digest, size: number, scratch?: Scratch): Uint8Array | undefined {
    return this.#chunk(digest, size, scratch);
  }

  /** A chunk of this size. Throws DATA_LOSS when it is another or damaged. */
  #chunk(digest: Digest, size: number, scratch: Scratch | undefined): Uint8Array | undefined {
    const { reader } = this.#store;
    // Asking for one byte more than there should be tells that the end has been reached.
    const bytes = scratch ? scratch.take(size + 1) : Buffer.allocUnsafe(size + 1);
    const count = reader.readChunk(digest.bytes, 0, size + 1, bytes, 0);
    if (count === size) return bytes.subarray(0, size);
    if (count === undefined && !reader.isRotten(digest.bytes)) return undefined;
    this.#store.env.rotten.note(digest);
    throw damaged(`chunk ${digest} is damaged in the local store: tvix-store fsck tells what it belongs to`);
  }

  async outboard(digest: Digest, { make, signal }: OutboardOptions = {}): Promise<Outboard | undefined> {
    signal?.throwIfAborted();
    const kept = this.#outboards.kept(digest);
    if (kept || !make) return kept;
    const work = async (shared: AbortSignal) => {
      const made = await makeOutboard(this, digest, shared);
      return made && this.#outboards.keep(digest, made);
    };
    return this.#made.run(digest.hex, work, signal);
  }

  async put(content: BlobContent, options: PutOptions = {}): Promise<Chunk> {
    const { signal, size: expected = 0 } = options;
    signal?.throwIfAborted();
    const { writer } = this.#store;
    const piece = content instanceof Uint8Array ? content : undefined;
    const known = piece && options.digest;
    if (piece && piece.length <= SINGLE_CHUNK_LIMIT) {
      const digest = known ?? Digest.hash(piece);
      await writer.chunk(digest, piece);
      return { digest, size: piece.length };
    }
    const { chunkerFor } = await loadChunker();
    const chunker = chunkerFor(expected, known);
    const chunks: Chunk[] = [];
    let size = 0;
    try {
      for await (const bytes of chunker.chunks(content instanceof Uint8Array ? [content] : content)) {
        const digest = known && bytes.length === piece?.length ? known : Digest.hash(bytes);
        await writer.chunk(digest, bytes);
        signal?.throwIfAborted();
        chunks.push({ digest, size: bytes.length });
        size += bytes.length;
      }
      const digest = chunks.length === 1 ? chunks[0]!.digest : chunker.digest();
      if (chunks.length > 1) await writer.manifest(digest, chunks);
      return { digest, size };
    } finally {
      chunker.close();
    }
  }

  async flush(): Promise<void> {
    await this.#store.writer.flush();
  }

  async assemble(digest: Digest, chunks: readonly Chunk[]): Promise<void> {
    const { writer, env } = this.#store;
    // Looked up by the writer, so that no collector takes them before the list is there.
    const found = await Promise.all(chunks.map((chunk) => writer.has(env.chunks, chunk.digest.bytes)));
    if (!found.every(Boolean)) return;
    await writer.manifest(digest, chunks);
    await writer.flush();
  }
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  if (bytes.length > 0) yield bytes;
}

async function* inPieces(chunks: Iterable<Chunk>, signal: AbortSignal | undefined): AsyncGenerator<Chunk[]> {
  const turns = new Turns(signal);
  let piece: Chunk[] = [];
  for (const chunk of chunks) {
    if (piece.push(chunk) < PIECE) continue;
    yield piece;
    piece = [];
    if (turns.isDue) await turns.take();
  }
  if (piece.length > 0) yield piece;
}
