import type { Channel } from '../../proto/grpc/channel.ts';
import { foundOrNot } from '../../proto/grpc/found.ts';
import { BLOB } from '../../proto/grpc/methods.ts';
import { toBigInt } from '../../proto/long.ts';
import { mapAhead } from '../../util/async/iterables.ts';
import { damaged, StoreError, WrongContents } from '../../util/errors.ts';
import { heldOutboard } from '../bao/whole.ts';
import { Digest, DigestHasher, EMPTY_DIGEST } from '../digest.ts';
import { BatchedReads } from './batched-reads.ts';
import { Batches, REFUSALS } from './batches.ts';
import { GrpcUpload } from './grpc-upload.ts';
import { chunksFrom, skipped } from './offset.ts';
import { Present } from './present.ts';
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

/** Contents up to this many bytes are taken in one piece. */
const SHORT = 1 << 20;
/** Chunks that are read at once, of a blob that broke off. */
const CHUNKS_AT_ONCE = 4;
/** What a byte takes on the wire that is a message of its own, and what else may come. */
const WIRE_BYTES = 3;
const FRAMING = 4096;

type Message = { data?: Uint8Array | null };

/** Blobs of a peer. Everything it sends is checked. */
export class GrpcBlobService implements BlobService {
  readonly #channel: Channel;
  readonly #present: Present;
  readonly #batches: Batches;
  readonly #upload: GrpcUpload;
  readonly #reads: BatchedReads;

  constructor(channel: Channel) {
    this.#channel = channel;
    this.#present = new Present(channel);
    this.#batches = new Batches(channel);
    this.#upload = new GrpcUpload(channel, this.#present, this.#batches);
    this.#reads = new BatchedReads(channel);
    channel.detect(BLOB.stat.service, (dialect) =>
      channel.unaryAs(dialect, BLOB.stat, { digest: EMPTY_DIGEST.bytes }),
    );
  }

  async chunks(digest: Digest, signal?: AbortSignal): Promise<readonly Chunk[] | undefined> {
    const response = await foundOrNot(
      this.#channel.unary(BLOB.stat, { digest: digest.bytes, sendChunks: true }, signal),
    );
    return response?.chunks?.map((chunk) => {
      const size = Number(toBigInt(chunk.size));
      if (chunk.digest?.length !== 32)
        throw damaged(`${this.#channel.address} sent an invalid chunk list of ${digest}`);
      return { digest: Digest.of(Uint8Array.from(chunk.digest)), size };
    });
  }

  /** As a whole, and made there if need be. None of a peer that knows of none. */
  async outboard(digest: Digest, { signal }: OutboardOptions = {}): Promise<Outboard | undefined> {
    const request = { digest: digest.bytes, sendBao: true };
    const response = await foundOrNot(this.#channel.unary(BLOB.stat, request, signal));
    return response?.bao?.length ? heldOutboard(Uint8Array.from(response.bao)) : undefined;
  }

  async has(digest: Digest, { size, signal }: HasOptions = {}): Promise<boolean> {
    const isThere = size === undefined ? undefined : await this.#asked({ digest, size }, signal);
    if (isThere !== undefined) return isThere;
    const found = await foundOrNot(this.#channel.unary(BLOB.stat, { digest: digest.bytes }, signal));
    return found !== undefined;
  }

  /** Whether a peer has it that can be asked for many at once; only by who may upload. */
  async #asked(chunk: Chunk, signal: AbortSignal | undefined): Promise<boolean | undefined> {
    try {
      return await this.#present.has(chunk, signal);
    } catch (error) {
      if (error instanceof StoreError && REFUSALS.includes(error.code)) return undefined;
      throw error;
    }
  }

  /**
   * One call, and what arrives is checked at its end. All of it also for an offset: a part could be checked only
   * against the peer's own chunk list, which nothing proves.
   */
  async read(digest: Digest, options: ReadOptions = {}): Promise<AsyncIterable<Uint8Array> | undefined> {
    const { size = Number.POSITIVE_INFINITY, offset = 0, signal } = options;
    if (size <= SHORT && offset === 0) return this.#readShort(digest, size, signal);
    const messages = this.#channel.serverStream(BLOB.read, { digest: digest.bytes }, signal);
    const first = await foundOrNot(messages.next());
    if (!first) return undefined;
    const checked = this.#checked(digest, size, this.#parts(digest, first, messages, signal));
    return offset > 0 ? skipped(checked, offset) : checked;
  }

  async #readShort(
    digest: Digest,
    size: number,
    signal?: AbortSignal,
  ): Promise<AsyncIterable<Uint8Array> | undefined> {
    // At first nobody waits to learn that many can come in one call.
    if (size <= SINGLE_CHUNK_LIMIT && this.#batches.known >= SINGLE_CHUNK_LIMIT) {
      const given = await this.#reads.read({ digest, size }, signal);
      if (given === 'absent') return undefined;
      if (given !== 'alone') return inOrder(this.#checkedParts(digest, size, [given.bytes]));
    }
    const request = { digest: digest.bytes };
    const most = WIRE_BYTES * size + FRAMING;
    const messages = await foundOrNot(this.#channel.wholeStream(BLOB.read, request, most, signal));
    if (!messages) return undefined;
    const parts = messages.flatMap(({ data }) => (data ? [data] : []));
    return inOrder(this.#checkedParts(digest, size, parts));
  }

  #checkedParts(digest: Digest, size: number, parts: readonly Uint8Array[]): readonly Uint8Array[] {
    const hash = parts.length === 1 ? Digest.hash(parts[0]!) : hashOf(parts);
    if (!hash.equals(digest)) throw this.#wrongContents(digest);
    if (parts.reduce((sum, { length }) => sum + length, 0) !== size) throw anotherSize({ digest, size });
    return parts;
  }

  #wrongContents(digest: Digest) {
    return new WrongContents(`${this.#channel.address} sent wrong contents for blob ${digest}`);
  }

  async *#checked(
    digest: Digest,
    size: number,
    parts: AsyncIterable<Uint8Array>,
  ): AsyncGenerator<Uint8Array> {
    const hasher = new DigestHasher();
    let left = size;
    for await (const data of parts) {
      left -= data.length;
      if (left < 0) throw anotherSize({ digest, size });
      hasher.update(data);
      yield data;
    }
    if (!hasher.digest().equals(digest)) throw this.#wrongContents(digest);
    if (left > 0 && size !== Number.POSITIVE_INFINITY) throw anotherSize({ digest, size });
  }

  /** What comes of a stream that has begun. If it breaks, others bring the rest behind what has come. */
  #parts(
    digest: Digest,
    first: IteratorResult<Message>,
    begun: AsyncGenerator<Message>,
    signal?: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    let received = 0;
    let stream: AsyncGenerator<Message> | undefined = continued(first, begun);
    const counted = async function* (parts: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
      for await (const part of parts) {
        received += part.length;
        yield part;
      }
    };
    return this.#channel.resumed(() => {
      const parts = stream ? dataOf(stream) : this.#behind(digest, received, signal);
      stream = undefined;
      return counted(parts);
    }, signal);
  }

  /** A blob behind so many bytes: by its chunks if it has any, or else all of it comes once more. */
  async *#behind(digest: Digest, received: number, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    const chunks = (await this.chunks(digest, signal)) ?? [];
    if (chunks.length === 0 || chunks.some(({ size }) => size > MAX_CHUNK_LENGTH)) {
      const messages = this.#channel.serverStream(BLOB.read, { digest: digest.bytes }, signal);
      yield* skipped(dataOf(messages), received);
      return;
    }
    const { wanted, skip } = chunksFrom(chunks, received);
    const read = async ({ digest: one, size }: Chunk) => {
      const parts = await this.#readShort(one, size, signal);
      if (!parts) throw damaged(`${this.#channel.address} has lost a chunk of blob ${digest}`);
      return parts;
    };
    const parts = async function* () {
      for await (const chunk of mapAhead(wanted, CHUNKS_AT_ONCE, read)) yield* chunk;
    };
    yield* skipped(parts(), skip);
  }

  put(content: BlobContent, options: PutOptions = {}): Promise<Chunk> {
    return content instanceof Uint8Array && content.length <= SINGLE_CHUNK_LIMIT
      ? this.#upload.short(content, options)
      : this.#upload.long(content, options);
  }

  /** A put is acknowledged when it is durable. */
  async flush(): Promise<void> {}
}

/** The contents that messages bring. */
async function* dataOf(messages: AsyncIterable<Message>): AsyncGenerator<Uint8Array> {
  for await (const { data } of messages) if (data?.length) yield data;
}

/** A stream whose first message has been taken from it. */
async function* continued<T>(first: IteratorResult<T>, rest: AsyncGenerator<T>): AsyncGenerator<T> {
  try {
    if (first.done) return;
    yield first.value;
    yield* rest;
  } finally {
    await rest.return(undefined);
  }
}

function hashOf(parts: readonly Uint8Array[]): Digest {
  const hasher = new DigestHasher();
  for (const part of parts) hasher.update(part);
  return hasher.digest();
}

async function* inOrder(parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}
