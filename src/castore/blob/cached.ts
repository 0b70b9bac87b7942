import { SingleFlight } from '../../util/async/single-flight.ts';
import { Tolerant } from '../../util/async/tolerant.ts';
import { collect } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import type { Digest } from '../digest.ts';
import { DigestHasher } from '../digest.ts';
import { FarBlobs } from './far-blobs.ts';
import { BlobFill } from './fill.ts';
import { Incoming } from './incoming.ts';
import { chunksFrom, skipped } from './offset.ts';
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
import { anotherSize, SINGLE_CHUNK_LIMIT } from './service.ts';

/** Chunks on their way at once for one reader. */
const AT_ONCE = 4;

/**
 * Blobs of a far service, kept in a near one as they are read. What is asked for by many is fetched once; a near
 * service that fails is done without. Puts go to one of the two, as it is told, and to that one only.
 *
 * A blob of which near gave a part and far the rest has been proven by neither: it is hashed here.
 *
 * A blob is fetched by its chunks where far knows them. Then one that is read from the middle is checked by
 * its chunks alone, and their list is far's word; near learns the list only after a whole read has proven it.
 */
export class CachedBlobService implements BlobService {
  readonly #near: BlobService;
  readonly #far: BlobService;
  readonly #checked: FarBlobs;
  readonly #target: BlobService;
  readonly #reading = new Tolerant('cannot read blobs from the near store');
  readonly #writing = new Tolerant('cannot keep blobs in the near store');
  readonly #fill: BlobFill;
  readonly #lists = new SingleFlight<readonly Chunk[] | undefined>();
  readonly #flights = new SingleFlight<Uint8Array | undefined>();
  readonly #incoming = new Map<string, Incoming>();

  constructor(near: BlobService, far: BlobService, puts: 'near' | 'far') {
    this.#near = near;
    this.#far = far;
    this.#checked = new FarBlobs(far);
    this.#target = puts === 'near' ? near : far;
    this.#fill = new BlobFill(near, this.#writing);
  }

  async chunks(digest: Digest, signal?: AbortSignal): Promise<readonly Chunk[] | undefined> {
    const near = await this.#reading.try(() => this.#near.chunks(digest, signal), signal);
    return near ?? this.#list(digest, undefined, signal);
  }

  /** Near may have all of a blob from which to make it, but far is likely to have it. */
  async outboard(
    digest: Digest,
    { make = false, signal }: OutboardOptions = {},
  ): Promise<Outboard | undefined> {
    const near = (options: OutboardOptions) =>
      this.#reading.try(async () => this.#near.outboard?.(digest, options), signal);
    return (
      (await near({ signal })) ??
      (await this.#far.outboard?.(digest, { make, signal })) ??
      (make ? near({ make, signal }) : undefined)
    );
  }

  has(digest: Digest, options?: HasOptions): Promise<boolean> {
    return this.#target.has(digest, options);
  }

  /** The chunk list that far tells of. */
  #list(
    digest: Digest,
    size: number | undefined,
    signal?: AbortSignal,
  ): Promise<readonly Chunk[] | undefined> {
    const ask = (shared: AbortSignal) => this.#checked.chunks(digest, size, shared);
    return this.#lists.run(`${digest.hex} ${size}`, ask, signal);
  }

  async read(digest: Digest, options: ReadOptions = {}): Promise<AsyncIterable<Uint8Array> | undefined> {
    const { size, signal } = options;
    const isShort = size !== undefined && size <= SINGLE_CHUNK_LIMIT;
    const near = await this.#reading.try(async () => {
      const contents = await this.#near.read(digest, isShort ? { ...options, scratch: undefined } : options);
      // Nothing of a short one is handed on before all of it is there.
      return contents && isShort ? once(await whole(contents, { digest, size, ...options })) : contents;
    }, signal);
    if (near && isShort) return near;
    return near ? this.#orFromFar(digest, near, options) : this.#fromFar(digest, options);
  }

  async #fromFar(digest: Digest, options: ReadOptions): Promise<AsyncIterable<Uint8Array> | undefined> {
    const { offset = 0, size, signal } = options;
    if (size !== undefined && size <= SINGLE_CHUNK_LIMIT) {
      const bytes = await this.#get({ digest, size }, signal);
      return bytes && once(bytes.subarray(offset));
    }
    const chunks = await this.#list(digest, size, signal);
    if (!chunks) return undefined;
    if (chunks.length === 0) return this.#whole(digest, options);
    return this.#byChunks(digest, chunks, offset, signal);
  }

  /** Goes on from far where near fails in the middle. */
  async *#orFromFar(
    digest: Digest,
    near: AsyncIterable<Uint8Array>,
    options: ReadOptions,
  ): AsyncGenerator<Uint8Array> {
    const { offset = 0, signal } = options;
    const begin = new Begin(digest, offset);
    let failure: unknown;
    try {
      for await (const part of near) {
        begin.add(part);
        yield part;
      }
      return;
    } catch (error) {
      signal?.throwIfAborted();
      this.#reading.failed(error);
      failure = error;
    }
    const { position } = begin;
    const contents =
      position === offset
        ? await this.#fromFar(digest, options)
        : begin.withRest(await this.#rest(digest, options, position));
    if (!contents) throw failure;
    yield* contents;
  }

  /**
   * Reads on from `position` in a blob that is read from `offset`. For one that is read from its start, far
   * gives all of it once more: only then is the whole checked.
   */
  async #rest(
    digest: Digest,
    options: ReadOptions,
    position: number,
  ): Promise<AsyncIterable<Uint8Array> | undefined> {
    if (options.offset) return this.#far.read(digest, { ...options, offset: position });
    const contents = await this.#far.read(digest, options);
    return contents && skipped(contents, position);
  }

  async *#byChunks(
    digest: Digest,
    chunks: readonly Chunk[],
    offset: number,
    signal?: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const leave = new AbortController();
    const until = signal ? AbortSignal.any([signal, leave.signal]) : leave.signal;
    const hasher = new DigestHasher();
    const { wanted, skip } = chunksFrom(chunks, offset);
    const ahead: Promise<Uint8Array>[] = [];
    try {
      for (let i = 0, next = 0; i < wanted.length; i++) {
        for (; next < wanted.length && next < i + AT_ONCE; next++) {
          const chunk = this.#chunk(wanted[next]!, until);
          // It is looked at in its turn.
          chunk.catch(() => {});
          ahead.push(chunk);
        }
        const bytes = await ahead.shift()!;
        if (offset === 0) hasher.update(bytes);
        yield i === 0 ? bytes.subarray(skip) : bytes;
      }
    } finally {
      leave.abort();
    }
    if (offset > 0) return;
    if (!hasher.digest().equals(digest)) throw damaged(`the chunks of blob ${digest} make another blob`);
    this.#fill.assemble(digest, chunks);
  }

  async #chunk(chunk: Chunk, signal: AbortSignal): Promise<Uint8Array> {
    const near = await this.#fromNear(chunk, signal);
    const bytes = near?.length === chunk.size ? near : await this.#get(chunk, signal);
    if (!bytes) throw damaged(`chunk ${chunk.digest} is missing`);
    return bytes;
  }

  async #fromNear({ digest, size }: Chunk, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    const held = this.#fill.get(digest);
    if (held) return held;
    return this.#reading.try(async () => {
      const parts = await this.#near.read(digest, { size, signal });
      return parts && collect(parts, size);
    }, signal);
  }

  /** Fetches a short blob or a chunk, once for all who want it. */
  async #get(chunk: Chunk, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    const { digest, size } = chunk;
    const held = this.#fill.get(digest);
    if (held?.length === size) return held;
    const fetch = async (shared: AbortSignal) => {
      const bytes = await this.#checked.chunk(chunk, shared);
      if (!bytes) return undefined;
      const own = Uint8Array.from(bytes);
      await this.#fill.add(digest, own);
      return own;
    };
    return this.#flights.run(`${digest.hex} ${size}`, fetch, signal);
  }

  /** A blob of which far knows no chunks is fetched from its beginning, wherever it is read. */
  async *#whole(digest: Digest, options: ReadOptions): AsyncGenerator<Uint8Array> {
    const { offset = 0, size, signal } = options;
    // Whoever is wrong about the size is so alone.
    const key = `${digest.hex} ${size}`;
    let incoming = this.#incoming.get(key);
    if (!incoming?.joinable) {
      incoming = new Incoming((shared) => this.#checked.cut(digest, size, shared), this.#fill);
      this.#incoming.set(key, incoming);
    }
    const begin = new Begin(digest, offset);
    let position = 0;
    let kept = true;
    try {
      for await (const chunk of incoming.follow(signal)) {
        const skip = Math.max(0, offset - position);
        if (skip < chunk.size) {
          const bytes = await this.#fromNear(chunk, signal);
          kept = bytes?.length === chunk.size;
          if (!kept) break;
          begin.add(bytes!.subarray(skip));
          yield bytes!.subarray(skip);
        }
        position += chunk.size;
      }
      if (kept && incoming.whole) this.#fill.assemble(digest, incoming.chunks);
      else {
        const rest = begin.withRest(await this.#rest(digest, options, Math.max(offset, position)));
        if (!rest) throw damaged(`blob ${digest} has gone from the far store`);
        yield* rest;
      }
    } finally {
      if (!incoming.joinable && this.#incoming.get(key) === incoming) this.#incoming.delete(key);
    }
  }

  put(content: BlobContent, options?: PutOptions): Promise<Chunk> {
    return this.#target.put(content, options);
  }

  flush(): Promise<void> {
    return this.#target.flush();
  }

  /** Resolves when what was fetched has been kept. */
  async settle(): Promise<void> {
    await this.#fill.settle();
    await this.#writing.settle();
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  if (bytes.length > 0) yield bytes;
}

/** All of a short blob, from `offset` on. Throws DATA_LOSS when it is of another size. */
async function whole(
  contents: AsyncIterable<Uint8Array>,
  { digest, size, offset = 0 }: Chunk & ReadOptions,
): Promise<Uint8Array> {
  const bytes = await collect(contents, size);
  if (bytes?.length !== Math.max(0, size - offset)) throw anotherSize({ digest, size });
  return bytes;
}

/** The part of a blob that has been handed on, whose rest comes from elsewhere. */
class Begin {
  readonly #digest: Digest;
  readonly #hasher: DigestHasher | undefined;
  /** Behind it, in bytes from the start of the blob. */
  position: number;

  /** Only a blob that is read from its start can be hashed. */
  constructor(digest: Digest, offset: number) {
    this.#digest = digest;
    this.#hasher = offset === 0 ? new DigestHasher() : undefined;
    this.position = offset;
  }

  add(part: Uint8Array): void {
    this.#hasher?.update(part);
    this.position += part.length;
  }

  /** The rest, at whose end both have been hashed. Throws DATA_LOSS when they make another blob. */
  withRest(rest: AsyncIterable<Uint8Array> | undefined): AsyncIterable<Uint8Array> | undefined {
    return rest && this.#checked(rest);
  }

  async *#checked(rest: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const part of rest) {
      this.add(part);
      yield part;
    }
    if (this.#hasher && !this.#hasher.digest().equals(this.#digest))
      throw damaged(`a part of blob ${this.#digest} was wrong near, and has been read`);
  }
}
