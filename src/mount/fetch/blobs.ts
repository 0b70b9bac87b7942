import { chunked } from '../../castore/blob/chunker.ts';
import type { BlobService, Chunk } from '../../castore/blob/service.ts';
import { SINGLE_CHUNK_LIMIT } from '../../castore/blob/service.ts';
import { Digest, DigestHasher } from '../../castore/digest.ts';
import type { StoreNeed } from '../../fs/need.ts';
import { collect, latin1 } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { SingleFlight } from '../../util/single-flight.ts';
import type { Keeper } from './keeper.ts';
import type { FetcherOptions, Progress } from './options.ts';
import { ReadAhead } from './read-ahead.ts';
import { Verification } from './verification.ts';

/** Content that has been fetched but not committed: beyond this, nothing is read ahead. */
const MAX_UNCOMMITTED = 64 << 20;

/**
 * Gets contents. A blob of at most 128 KiB is one chunk and comes by one call. A larger one comes by its
 * chunk list: what is wanted first, then, while it is read in order, what will be.
 */
export class BlobFetcher {
  readonly #service: BlobService;
  readonly #keeper: Keeper;
  readonly #options: FetcherOptions;
  readonly #flights = new SingleFlight<void>();
  readonly #listFlights = new SingleFlight<readonly Chunk[]>();
  readonly #verification: Verification;
  readonly #readAhead: ReadAhead;
  readonly #closing = new AbortController();

  constructor(service: BlobService, keeper: Keeper, options: FetcherOptions) {
    this.#service = service;
    this.#keeper = keeper;
    this.#options = options;
    this.#verification = new Verification(keeper);
    this.#readAhead = new ReadAhead({
      mayGoOn: () => keeper.uncommitted < MAX_UNCOMMITTED,
      isLocal: (chunk) => this.#isLocal(chunk),
      get: (chunk) => this.#chunk(chunk, () => {}, this.#closing.signal),
    });
  }

  async fetch(need: StoreNeed & { kind: 'blob' }, progress: Progress, signal: AbortSignal): Promise<void> {
    const digest = Digest.of(need.digest);
    this.#verification.refuseRevoked(digest);
    if (need.size <= SINGLE_CHUNK_LIMIT) return this.#chunk({ digest, size: need.size }, progress, signal);
    const chunks = await this.#chunksOf(digest, need.size, progress, signal);
    if (chunks.length === 0)
      return this.#flights.run(
        digest.hex,
        (shared) => this.#whole(digest, need.size, progress, shared),
        signal,
      );
    if (this.#options.verifyWhole && this.#verification.isProvisional(digest)) {
      await this.#all(chunks, progress, signal);
      await this.#verification.check(digest, chunks);
      return;
    }
    const wanted = overlapping(chunks, need.offset, need.length);
    await Promise.all(
      chunks.slice(wanted.first, wanted.end).map((chunk) => this.#chunk(chunk, progress, signal)),
    );
    this.#readAhead.note(latin1(digest.bytes), chunks, need.offset, wanted);
    if (this.#verification.isProvisional(digest) && chunks.every((chunk) => this.#isLocal(chunk))) {
      this.#verification.check(digest, chunks).catch((error) => log.error(String((error as Error).message)));
    }
  }

  #isLocal({ digest }: Chunk): boolean {
    return this.#keeper.has('chunk', digest);
  }

  /** The chunk list, checked as far as it can be: provisional until the whole blob has been hashed. */
  async #chunksOf(
    digest: Digest,
    size: number,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<readonly Chunk[]> {
    const known = this.#verification.chunks(digest);
    if (known) return known;
    const chunks = await this.#listFlights.run(
      digest.hex,
      (shared) => this.#getList(digest, size, shared),
      signal,
    );
    progress();
    return chunks;
  }

  async #getList(digest: Digest, size: number, signal: AbortSignal): Promise<readonly Chunk[]> {
    const chunks = await this.#service.chunks(digest, signal);
    if (!chunks) throw damaged(`blob ${digest} is missing`);
    if (chunks.length === 0) return chunks;
    const total = chunks.reduce((sum, chunk) => sum + chunk.size, 0);
    if (total !== size) throw damaged(`the chunks of blob ${digest} have ${total} bytes, want ${size}`);
    const tooLong = chunks.find((chunk) => chunk.size > MAX_CHUNK_LENGTH);
    if (tooLong) throw damaged(`blob ${digest} has a chunk of ${tooLong.size} bytes`);
    this.#verification.provisional(digest, chunks, this.#options.verifyWhole);
    return chunks;
  }

  async #all(chunks: readonly Chunk[], progress: Progress, signal: AbortSignal): Promise<void> {
    for (let next = 0; next < chunks.length; next += AT_ONCE) {
      await Promise.all(
        chunks.slice(next, next + AT_ONCE).map((chunk) => this.#chunk(chunk, progress, signal)),
      );
    }
  }

  async #chunk(chunk: Chunk, progress: Progress, signal: AbortSignal): Promise<void> {
    if (this.#isLocal(chunk)) return;
    await this.#flights.run(chunk.digest.hex, (shared) => this.#get(chunk, shared), signal);
    progress();
  }

  async #get({ digest, size }: Chunk, signal: AbortSignal): Promise<void> {
    const contents = await this.#service.read(digest, { signal });
    if (!contents) throw damaged(`blob ${digest} is missing`);
    const bytes = await collect(contents, size);
    if (bytes?.length !== size) throw damaged(`blob ${digest} has another size than ${size}`);
    if (!Digest.hash(bytes).equals(digest)) throw damaged(`the contents of blob ${digest} are wrong`);
    this.#keeper.chunk(digest, bytes);
  }

  /** A blob without a chunk list is read whole, cut here, and shown when all of it is right. */
  async #whole(digest: Digest, size: number, progress: Progress, signal: AbortSignal): Promise<void> {
    const contents = await this.#service.read(digest, { signal });
    if (!contents) throw damaged(`blob ${digest} is missing`);
    const hasher = new DigestHasher();
    const chunks: Chunk[] = [];
    const parts: Uint8Array[] = [];
    let total = 0;
    let kept = Promise.resolve();
    for await (const part of chunked(contents)) {
      progress();
      total += part.length;
      if (total > size) throw damaged(`blob ${digest} is longer than its size ${size}`);
      hasher.update(part);
      const chunk = { digest: Digest.hash(part), size: part.length };
      chunks.push(chunk);
      if (size <= WHOLE_IN_MEMORY) parts.push(Uint8Array.from(part));
      else kept = this.#keeper.quietly(chunk.digest, part);
    }
    if (total !== size || !hasher.digest().equals(digest))
      throw damaged(`the contents of blob ${digest} are wrong`);
    await kept;
    for (const [i, part] of parts.entries()) this.#keeper.chunk(chunks[i]!.digest, part);
    if (chunks.length > 1) this.#keeper.manifest(digest, chunks);
  }

  close(): void {
    this.#closing.abort();
  }
}

/** A peer may cut as it likes, within reason: a chunk is held in memory. */
const MAX_CHUNK_LENGTH = 16 << 20;
/** A blob up to this many bytes that comes without a chunk list is answered from memory, not from the cache. */
const WHOLE_IN_MEMORY = 8 << 20;
/** Chunks fetched at once when all are wanted. */
const AT_ONCE = 8;

/** Which chunks hold a part of the blob. */
function overlapping(
  chunks: readonly Chunk[],
  offset: number,
  length: number,
): { first: number; end: number } {
  let start = 0;
  let first = chunks.length;
  let end = 0;
  for (const [i, chunk] of chunks.entries()) {
    if (start + chunk.size > offset && start < offset + length) {
      first = Math.min(first, i);
      end = i + 1;
    }
    start += chunk.size;
  }
  return { first, end };
}
