import type { Channel } from '../../proto/grpc/channel.ts';
import { BLOB, BLOB_MESSAGE_LENGTH } from '../../proto/grpc/methods.ts';
import { toBigInt } from '../../proto/long.ts';
import { damaged, StoreError } from '../../util/errors.ts';
import { Digest, DigestHasher, EMPTY_DIGEST } from '../digest.ts';
import type { BlobContent, BlobService, Chunk, HasOptions, PutOptions, ReadOptions } from './service.ts';
import { anotherSize, SINGLE_CHUNK_LIMIT } from './service.ts';

/** Contents up to this many bytes are taken in one piece. */
const SHORT = 1 << 20;
/** What a byte takes on the wire that is a message of its own, and what else may come. */
const WIRE_BYTES = 3;
const FRAMING = 4096;

type Message = { data?: Uint8Array | null };

/** Blobs of a peer. Everything it sends is checked. */
export class GrpcBlobService implements BlobService {
  readonly #channel: Channel;

  constructor(channel: Channel) {
    this.#channel = channel;
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

  async has(digest: Digest, { signal }: HasOptions = {}): Promise<boolean> {
    const found = await foundOrNot(this.#channel.unary(BLOB.stat, { digest: digest.bytes }, signal));
    return found !== undefined;
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
    return first && this.#checked(digest, { size, offset }, this.#parts(digest, first, messages, signal));
  }

  async #readShort(
    digest: Digest,
    size: number,
    signal?: AbortSignal,
  ): Promise<AsyncIterable<Uint8Array> | undefined> {
    const request = { digest: digest.bytes };
    const most = WIRE_BYTES * size + FRAMING;
    const messages = await foundOrNot(this.#channel.wholeStream(BLOB.read, request, most, signal));
    if (!messages) return undefined;
    const parts = messages.flatMap(({ data }) => (data ? [data] : []));
    const hash = parts.length === 1 ? Digest.hash(parts[0]!) : hashOf(parts);
    if (!hash.equals(digest)) throw this.#wrongContents(digest);
    if (parts.reduce((sum, { length }) => sum + length, 0) !== size) throw anotherSize({ digest, size });
    return inOrder(parts);
  }

  #wrongContents(digest: Digest) {
    return damaged(`${this.#channel.address} sent wrong contents for blob ${digest}`);
  }

  async *#checked(
    digest: Digest,
    { size, offset }: { readonly size: number; readonly offset: number },
    parts: AsyncIterable<Uint8Array>,
  ): AsyncGenerator<Uint8Array> {
    const hasher = new DigestHasher();
    let skip = offset;
    let left = size;
    for await (const data of parts) {
      left -= data.length;
      if (left < 0) throw anotherSize({ digest, size });
      hasher.update(data);
      if (skip < data.length) yield skip > 0 ? data.subarray(skip) : data;
      skip = Math.max(0, skip - data.length);
    }
    if (!hasher.digest().equals(digest)) throw this.#wrongContents(digest);
    if (left > 0 && size !== Number.POSITIVE_INFINITY) throw anotherSize({ digest, size });
  }

  /** What comes of a stream that has begun. If it breaks, another one brings the rest behind what has come. */
  #parts(
    digest: Digest,
    first: IteratorResult<Message>,
    begun: AsyncGenerator<Message>,
    signal?: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    let received = 0;
    let stream: AsyncIterable<Message> | undefined = continued(first, begun);
    const rest = async function* (messages: AsyncIterable<Message>): AsyncGenerator<Uint8Array> {
      let known = received;
      for await (const { data } of messages) {
        if (!data) continue;
        const news = data.subarray(known);
        known = Math.max(0, known - data.length);
        received += news.length;
        if (news.length > 0) yield news;
      }
    };
    return this.#channel.resumed(() => {
      const messages = stream ?? this.#channel.serverStream(BLOB.read, { digest: digest.bytes }, signal);
      stream = undefined;
      return rest(messages);
    }, signal);
  }

  async put(content: BlobContent, options: PutOptions = {}): Promise<Chunk> {
    if (content instanceof Uint8Array && content.length <= SINGLE_CHUNK_LIMIT)
      return this.#putSmall(content, options);
    const hasher = new DigestHasher();
    let size = 0;
    const messages = async function* (): AsyncGenerator<{ data?: Uint8Array | null }> {
      for await (const part of content instanceof Uint8Array ? [content] : content) {
        hasher.update(part);
        size += part.length;
        for (let at = 0; at < part.length; at += BLOB_MESSAGE_LENGTH) {
          yield { data: part.subarray(at, at + BLOB_MESSAGE_LENGTH) };
        }
      }
    };
    const response = await this.#channel.clientStream(BLOB.put, messages(), options.signal);
    return this.#stored({ digest: hasher.digest(), size }, response);
  }

  /** A stream of one message is a plain call on the wire, and takes half the time as one. It can be repeated. */
  async #putSmall(content: Uint8Array, { signal, digest }: PutOptions): Promise<Chunk> {
    const response = await this.#channel.unary(BLOB.put, { data: content }, signal);
    return this.#stored({ digest: digest ?? Digest.hash(content), size: content.length }, response);
  }

  #stored(chunk: Chunk, { digest }: { digest?: Uint8Array | null }): Chunk {
    if (digest && Buffer.from(chunk.digest.bytes).equals(digest)) return chunk;
    throw damaged(`${this.#channel.address} stored something else than blob ${chunk.digest}`);
  }

  /** A put is acknowledged when it is durable. */
  async flush(): Promise<void> {}
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

/** Turns NOT_FOUND into `undefined`. */
export async function foundOrNot<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof StoreError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}
