import { FarBlobs } from '../../castore/blob/far-blobs.ts';
import type { BlobService, Chunk } from '../../castore/blob/service.ts';
import { SINGLE_CHUNK_LIMIT } from '../../castore/blob/service.ts';
import { Digest } from '../../castore/digest.ts';
import type { ContentNeed } from '../../fs/need.ts';
import { SingleFlight } from '../../util/async/single-flight.ts';
import { latin1 } from '../../util/bytes.ts';
import { damaged, isDamage } from '../../util/errors.ts';
import { AheadQueue } from './ahead-queue.ts';
import { BlobStream } from './blob-stream.ts';
import type { ChunkList, ChunkRange } from './chunk-list.ts';
import type { Keeper } from './keeper.ts';
import { Neighbours } from './neighbours.ts';
import type { FetcherOptions, Progress } from './options.ts';
import { Proof } from './proof.ts';
import { ReadAhead } from './read-ahead.ts';
import type { Transfers, Urgency } from './transfers.ts';
import { URGENCY } from './transfers.ts';
import { MAX_SIZE } from './tree-walk.ts';
import { Verification } from './verification.ts';

/** Content that has been fetched but not committed: beyond this, nothing is read ahead. */
export const MAX_UNCOMMITTED = 64 << 20;

/**
 * Gets contents. A blob of at most 128 KiB is one chunk and comes by one call. A larger one comes by its
 * chunk list: what is wanted first, then, while it is read in order, what will be.
 */
export class BlobFetcher {
  readonly #far: FarBlobs;
  readonly #keeper: Keeper;
  readonly #options: FetcherOptions;
  readonly #transfers: Transfers;
  readonly #listFlights = new SingleFlight<ChunkList | undefined>();
  readonly #verification: Verification;
  readonly #readAhead: ReadAhead;
  readonly #neighbours: Neighbours;
  /** By digest: what is being read in order. */
  readonly #streams = new Map<string, BlobStream>();
  readonly #closing = new AbortController();

  constructor(service: BlobService, keeper: Keeper, transfers: Transfers, options: FetcherOptions) {
    this.#transfers = transfers;
    this.#far = new FarBlobs(service);
    this.#keeper = keeper;
    this.#options = options;
    this.#verification = new Verification(keeper);
    const ahead = new AheadQueue(() => keeper.uncommitted < MAX_UNCOMMITTED);
    this.#readAhead = new ReadAhead(ahead);
    this.#neighbours = new Neighbours(ahead, (one) => keeper.encodedDirectory(one));
  }

  async fetch(need: ContentNeed & { kind: 'blob' }, progress: Progress, signal: AbortSignal): Promise<void> {
    const digest = Digest.of(need.digest);
    this.#verification.refuseRevoked(digest);
    const fetched =
      need.size <= SINGLE_CHUNK_LIMIT
        ? this.#chunk({ digest, size: need.size }, URGENCY.SMALL, progress, signal)
        : this.#long(need, digest, progress, signal);
    if (need.way.length > 0 && need.size <= MAX_SIZE)
      this.#neighbours.note(need.way, (file) => this.#fileAhead(file));
    return fetched;
  }

  /** A part of a blob of several chunks. */
  async #long(
    need: ContentNeed & { kind: 'blob' },
    digest: Digest,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<void> {
    const cargo = { key: digest.hex, size: Math.min(need.size, MAX_UNREAD), urgency: URGENCY.NEXT };
    const whole = (shared: AbortSignal) => this.#whole(digest, need.size, progress, shared);
    if (this.#transfers.has(digest.hex)) {
      // It is on its way as a whole, for who read the files before it. If that fails, its chunks can still be had.
      const failure = await this.#transfers.run(cargo, whole, signal).catch((error) => error);
      if (!failure) return;
    }
    const list = await this.#list(digest, need.size, progress, signal);
    if (!list) return this.#transfers.run(cargo, whole, signal);
    const get = async (chunk: Chunk, urgency: Urgency, onProgress: Progress, until: AbortSignal) => {
      await this.#chunk(chunk, urgency, onProgress, until).catch((error) => {
        if (isDamage(error)) this.#verification.doubt(digest, list);
        throw error;
      });
      list.arrived(chunk);
    };
    const completely = async () => {
      await this.#all(list, (chunk) => get(chunk, URGENCY.NEXT, progress, signal));
      await this.#verification.check(digest, list);
    };
    if (this.#isHidden(list)) return completely();
    const proof = this.#verification.proofOf(list);
    const part = proof?.aligned(need.offset, need.length) ?? need;
    const wanted = list.overlapping(part.offset, part.length);
    if (proof?.has(need.offset, need.length)) this.#verification.lendAgain(digest, list);
    const key = latin1(digest.bytes);
    const isInOrder = this.#readAhead.arrives(key, wanted);
    let stream = this.#streams.get(key);
    // On a slow line, what is under way of a stream would keep the others waiting.
    if (this.#transfers.line.isSlow) void stream?.stop();
    else if (isInOrder) stream ??= this.#stream(key, digest, list, wanted);
    const chunks = list.chunks.slice(wanted.first, wanted.end);
    const getAll = (until: AbortSignal) =>
      Promise.all(
        chunks.map((chunk, i) => {
          const isFirst = !isInOrder || wanted.first + i === 0;
          return get(chunk, isFirst ? URGENCY.FIRST : URGENCY.NEXT, progress, until);
        }),
      );
    // Those that have come may only have to be proven.
    if (stream?.brings(wanted) && chunks.some((chunk) => list.isMissing(chunk)))
      await alongStream(stream, wanted, getAll, progress, signal);
    await getAll(signal);
    await this.#verification.prove(digest, list, wanted, signal);
    if (this.#isHidden(list)) return completely();
    if (this.#streams.has(key)) return;
    this.#verification.checkWhenComplete(digest, list);
    if (!isInOrder) return;
    this.#readAhead.follow(key, list, wanted, async (chunk) => {
      await get(chunk, URGENCY.AHEAD, () => {}, this.#closing.signal);
      this.#verification.checkWhenComplete(digest, list);
    });
  }

  /** Brings a part of a blob for which nobody waits yet. */
  async ahead(
    blob: Chunk,
    { offset, length }: { readonly offset: number; readonly length: number },
    signal: AbortSignal,
  ): Promise<void> {
    const { digest, size } = blob;
    const get = (chunk: Chunk) => this.#chunk(chunk, URGENCY.AHEAD, () => {}, signal);
    if (size <= SINGLE_CHUNK_LIMIT) return get(blob);
    const list = await this.#list(digest, size, () => {}, signal);
    // Of others, all is needed before any of it is served.
    if (!list || this.#isHidden(list)) return;
    const { first, end } = list.overlapping(offset, length);
    await Promise.all(
      list.chunks.slice(first, end).map(async (chunk) => {
        await get(chunk);
        list.arrived(chunk);
      }),
    );
    await this.#verification.prove(digest, list, { first, end }, signal);
    this.#verification.checkWhenComplete(digest, list);
  }

  /** Whether all of a blob is to be there before any of it is served. */
  #isHidden(list: ChunkList): boolean {
    return (this.#options.verifyWhole && list.provisional) || this.#verification.isHidden(list);
  }

  /**
   * Brings a file for which nobody waits yet: as a whole, unless it is known of which chunks it is. On a slow line, all of
   * a whole one would keep the others waiting.
   */
  #fileAhead(file: Chunk): Promise<void> {
    const { signal } = this.#closing;
    const { digest, size } = file;
    if (size <= SINGLE_CHUNK_LIMIT || this.#transfers.line.isSlow || this.#verification.list(digest))
      return this.ahead(file, { offset: 0, length: size }, signal);
    const whole = (shared: AbortSignal) => this.#whole(digest, size, () => {}, shared);
    return this.#transfers.run({ key: digest.hex, size, urgency: URGENCY.AHEAD }, whole, signal);
  }

  /** Begins a stream for a reader who reads a large blob in order from its start, if nearly all of it is to come. */
  #stream(key: string, digest: Digest, list: ChunkList, wanted: ChunkRange): BlobStream | undefined {
    const again = list.start(wanted.first);
    const rest = list.size - again;
    if (again === 0 || again > MAX_AGAIN || rest < MIN_STREAMED || this.#streams.size >= MAX_STREAMS) return;
    if (list.missingBytes < rest * MIN_MISSING) return;
    const stream = new BlobStream(list, {
      read: (signal) => this.#far.contents(digest, signal),
      onArrival: (bytes) => this.#transfers.arrived(bytes),
      take: (chunk, bytes) => {
        this.#keeper.chunk(chunk.digest, bytes);
        list.arrived(chunk);
      },
    });
    this.#streams.set(key, stream);
    stream.ended
      .then(
        () => this.#verification.proven(digest, list),
        () => this.#verification.checkWhenComplete(digest, list),
      )
      .finally(() => this.#streams.delete(key));
    return stream;
  }

  /**
   * The chunk list, checked as far as it can be: provisional until the whole blob has been hashed. `undefined`
   * when the peer knows none.
   */
  async #list(
    digest: Digest,
    size: number,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<ChunkList | undefined> {
    const known = this.#verification.list(digest);
    if (known && !this.#options.verifyWhole && this.#verification.wantsProof(known))
      return this.#getProof({ digest, size }, known, signal);
    if (known) return known;
    const get = (shared: AbortSignal) => this.#getList(digest, size, progress, shared);
    return this.#listFlights.run(digest.hex, get, signal);
  }

  async #getList(
    digest: Digest,
    size: number,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<ChunkList | undefined> {
    const begun = performance.now();
    const { verifyWhole } = this.#options;
    const [chunks, outboard] = await Promise.all([
      // That an outboard has been waited for in vain is no progress.
      this.#far.chunks(digest, size, signal).finally(progress),
      verifyWhole ? undefined : this.#far.outboard(digest, signal),
    ]);
    this.#transfers.line.answered(performance.now() - begun);
    if (!chunks) throw damaged(`blob ${digest} is missing`);
    if (chunks.length === 0) return undefined;
    const proof = outboard && new Proof({ digest, size }, outboard);
    return this.#verification.provisional(digest, chunks, verifyWhole, proof);
  }

  /** Has a list from an earlier time proven, if the peer has an outboard by now. */
  async #getProof(blob: Chunk, list: ChunkList, signal: AbortSignal): Promise<ChunkList> {
    const outboard = await this.#far.outboard(blob.digest, signal);
    if (!outboard || !list.provisional) return list;
    return this.#verification.provisional(blob.digest, list.chunks, false, new Proof(blob, outboard));
  }

  async #all({ chunks }: ChunkList, get: (chunk: Chunk) => Promise<void>): Promise<void> {
    for (let next = 0; next < chunks.length; next += AT_ONCE) {
      await Promise.all(chunks.slice(next, next + AT_ONCE).map(get));
    }
  }

  async #chunk(chunk: Chunk, urgency: Urgency, progress: Progress, signal: AbortSignal): Promise<void> {
    if (this.#keeper.has('chunk', chunk.digest)) return;
    const cargo = { key: chunk.digest.hex, size: chunk.size, urgency };
    await this.#transfers.run(cargo, (shared) => this.#get(chunk, shared), signal);
    progress();
  }

  async #get(chunk: Chunk, signal: AbortSignal): Promise<void> {
    const bytes = await this.#far.chunk(chunk, signal);
    if (!bytes) throw damaged(`blob ${chunk.digest} is missing`);
    this.#keeper.chunk(chunk.digest, bytes);
  }

  /** A blob without a chunk list is read whole, cut here, and shown when all of it is right. */
  async #whole(digest: Digest, size: number, progress: Progress, signal: AbortSignal): Promise<void> {
    const chunks: Chunk[] = [];
    const parts: Uint8Array[] = [];
    let kept = Promise.resolve();
    for await (const piece of this.#far.cut(digest, size, signal)) {
      progress();
      chunks.push({ digest: piece.digest, size: piece.size });
      if (size <= WHOLE_IN_MEMORY) parts.push(Uint8Array.from(piece.bytes));
      else kept = this.#keeper.quietly(piece.digest, piece.bytes);
    }
    await kept;
    for (const [i, part] of parts.entries()) this.#keeper.chunk(chunks[i]!.digest, part);
    if (chunks.length > 1) this.#keeper.manifest(digest, chunks);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all([...this.#streams.values()].map((stream) => stream.stop()));
    await this.#verification.close();
  }
}

/**
 * Waits for a stream to bring chunks. When it falls silent, they are had beside it by themselves; and when they have come
 * before it speaks again, it is given up.
 */
async function alongStream(
  stream: BlobStream,
  { end }: ChunkRange,
  getAll: (signal: AbortSignal) => Promise<unknown>,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const over = new AbortController();
  const until = AbortSignal.any([signal, over.signal]);
  try {
    const reached = stream.reach(end, progress, until);
    const silent = stream.silence(until);
    const isSilent = await Promise.race([reached.then(() => false), silent.then(() => true)]);
    if (!isSilent) return;
    await Promise.any([reached, getAll(until)]);
    if (stream.isSilent) void stream.stop();
  } catch {
    // They are still to be had.
  } finally {
    over.abort();
  }
}

/** Bytes that may arrive of a stream that nobody reads on. */
const MAX_UNREAD = 4 << 20;
/** A blob up to this many bytes that comes without a chunk list is answered from memory, not from the cache. */
const WHOLE_IN_MEMORY = 8 << 20;
/** Streams at once, and bytes of a blob for which one is worth while. */
const MAX_STREAMS = 16;
const MIN_STREAMED = 8 << 20;
/** A stream brings the beginning of a blob again: not more of it than this, in bytes. */
const MAX_AGAIN = 2 << 20;
/** How much of the rest of a blob must be missing for a stream: it would bring again what is there. */
const MIN_MISSING = 0.95;
/** Chunks fetched at once when all are wanted. */
const AT_ONCE = 8;
