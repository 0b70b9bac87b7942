import type { Channel } from '../../proto/grpc/channel.ts';
import { BLOB, BLOB_MESSAGE_LENGTH, MAX_MESSAGE_LENGTH } from '../../proto/grpc/methods.ts';
import { beginOf, mapAhead } from '../../util/async/iterables.ts';
import { LinePlaces } from '../../util/async/line-places.ts';
import { withSigns } from '../../util/async/signs.ts';
import { damaged } from '../../util/errors.ts';
import { Digest, DigestHasher } from '../digest.ts';
import { BatchedPuts } from './batched-puts.ts';
import type { Batches } from './batches.ts';
import { chunked } from './chunker.ts';
import { DEFAULT_CUTTER } from './cutter-options.ts';
import { chunkerFor } from './parallel-chunker.ts';
import type { Present } from './present.ts';
import type { BlobContent, Chunk, PutOptions } from './service.ts';
import { SINGLE_CHUNK_LIMIT } from './service.ts';

/** What is known of a stream whose peer took a part of it before: its first bytes, as many as hold some chunks. */
const BEGIN_LENGTH = 2 * DEFAULT_CUTTER.max;
/** Of so many bytes it is worth while to send the first ones twice, if a stream can be used then. */
const LONG = 16 << 20;
/** Chunks of one blob that are asked for, or sent, at once. */
const AT_ONCE = 8;
/** Bytes of the name of a chunk in a message, at the most. */
const NAME_LENGTH = 80;
/** A blob beyond it is sent as a whole: the names of its chunks would be too long a message. */
const MAX_SPLICED = (MAX_MESSAGE_LENGTH / NAME_LENGTH) * DEFAULT_CUTTER.min;

type Bytes = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
type Message = { data?: Uint8Array | null };

/** A chunk of what is to be sent, and whether the peer lacks it. */
interface Asked extends Chunk {
  readonly bytes: Uint8Array;
  readonly isMissing: boolean;
}

/**
 * Sends blobs to a peer. One like ours keeps what it got of one that was cut, so that the next time only what it lacks is
 * sent, and it makes the blob of its chunks. Over a slow line chunks are sent one by one, each of which is answered when it
 * is kept: of a stream some megabytes are under way, and lost when it breaks.
 */
export class GrpcUpload {
  readonly #channel: Channel;
  readonly #present: Present;
  readonly #places = new LinePlaces();
  readonly #batches: Batches;
  #batched: BatchedPuts | undefined;

  constructor(channel: Channel, present: Present, batches: Batches) {
    this.#channel = channel;
    this.#present = present;
    this.#batches = batches;
  }

  /**
   * Sends what the peer lacks, where it can with others in one call. A stream of one message is a plain call on the wire, and
   * takes half the time as one. Either can be repeated.
   */
  async short(bytes: Uint8Array, { signal, digest, isMissing = false }: PutOptions): Promise<Chunk> {
    const chunk = { digest: digest ?? Digest.hash(bytes), size: bytes.length };
    const [isThere, length] = await Promise.all([
      isMissing ? false : this.#present.has(chunk, signal),
      bytes.length <= SINGLE_CHUNK_LIMIT ? this.#batches.length(signal) : 0,
    ]);
    if (isThere) return chunk;
    if (length >= SINGLE_CHUNK_LIMIT) {
      this.#batched ??= new BatchedPuts(this.#channel, this.#places, length);
      await this.#batched.put(chunk, bytes, signal);
      return chunk;
    }
    const put = () => this.#channel.unary(BLOB.put, { data: bytes }, signal);
    return this.#stored(chunk, await this.#places.run(bytes.length, put, signal));
  }

  /** Where the peer keeps what it got, a connection that breaks costs only what was under way. */
  async long(content: BlobContent, options: PutOptions): Promise<Chunk> {
    const { again, signal } = options;
    const tries = this.#channel.tries(signal);
    for (let next = content; ; ) {
      signal?.throwIfAborted();
      const parts = next instanceof Uint8Array ? [next] : next;
      try {
        return await this.#send(
          seen(parts, () => tries.progress()),
          options,
        );
      } catch (error) {
        if (!again || !this.#present.isOffered) throw error;
        await tries.after(error);
        next = await again();
      }
    }
  }

  async #send(parts: Bytes, { signal, size = 0 }: PutOptions): Promise<Chunk> {
    if (size > MAX_SPLICED || !this.#present.isOffered) return this.#stream(parts, signal);
    const [known, whole] = await beginOf(parts, BEGIN_LENGTH);
    const begin = known.subarray(0, BEGIN_LENGTH);
    const hasSome = await this.#hasSome(begin);
    // It shows what the line carries. Nothing of it is lost if that is little, and if it is much, it costs little.
    const isUnknown = !hasSome && size >= LONG && !this.#places.isMeasured;
    if (isUnknown && this.#present.isOffered) await this.#stream([begin], signal);
    const asStream = !this.#present.isOffered || (this.#places.isFast && !hasSome);
    return asStream ? this.#stream(whole, signal) : this.#pieces(whole, size, signal);
  }

  /** Whether the peer has a part of a stream. What it got in order, it has from the beginning. */
  async #hasSome(begin: Uint8Array): Promise<boolean> {
    const chunks: Promise<boolean | undefined>[] = [];
    let at = 0;
    for await (const bytes of chunked([begin])) {
      at += bytes.length;
      // Behind the last one there may be more of it.
      if (at === BEGIN_LENGTH) break;
      chunks.push(this.#present.has({ digest: Digest.hash(bytes), size: bytes.length }));
    }
    return (await Promise.all(chunks)).includes(true);
  }

  /** Sends a stream as one blob. */
  #stream(parts: Bytes, signal: AbortSignal | undefined): Promise<Chunk> {
    const send = async (sent: (bytes: number) => void) => {
      const hasher = new DigestHasher();
      let size = 0;
      const messages = async function* (): AsyncGenerator<Message> {
        for await (const part of parts) {
          hasher.update(part);
          size += part.length;
          for (let at = 0; at < part.length; at += BLOB_MESSAGE_LENGTH) {
            const data = part.subarray(at, at + BLOB_MESSAGE_LENGTH);
            yield { data };
            sent(data.length);
          }
        }
      };
      // Of a source that is slow the peer hears meanwhile that it is waited for.
      const answer = await this.#channel.clientStream(BLOB.put, withSigns(messages(), {}), signal);
      return this.#stored({ digest: hasher.digest(), size }, answer);
    };
    return this.#places.run(DEFAULT_CUTTER.max, send, signal);
  }

  /** Sends the chunks that the peer lacks of a blob, and has it made of all of them. */
  async #pieces(parts: Bytes, expected: number, signal: AbortSignal | undefined): Promise<Chunk> {
    const chunker = chunkerFor(expected);
    const cut = chunker.chunks(parts);
    const chunks: Chunk[] = [];
    try {
      const slowly = this.#oneByOne(cut, signal);
      for await (const chunk of slowly) chunks.push(chunk);
      await this.#inRows(cut, (chunk) => chunks.push(chunk), signal);
      if (chunks.length === 1) return chunks[0]!;
      const size = chunks.reduce((sum, chunk) => sum + chunk.size, 0);
      const blob = { digest: chunker.digest(), size };
      await this.#present.splice(blob, chunks, signal);
      return blob;
    } finally {
      await cut.return(undefined);
      chunker.close();
    }
  }

  /** Sends chunks as long as the line is not fast; gives all that it has seen to. */
  #oneByOne(cut: AsyncGenerator<Uint8Array>, signal: AbortSignal | undefined): AsyncGenerator<Chunk> {
    const isFast = () => this.#places.isFast;
    const some = async function* (): AsyncGenerator<Uint8Array> {
      while (!isFast()) {
        const { value, done } = await cut.next();
        if (done) return;
        yield Uint8Array.from(value);
      }
    };
    return mapAhead(some(), AT_ONCE, (bytes) => this.short(bytes, { signal }));
  }

  /** Sends each row of chunks that the peer lacks as a blob of its own; tells of all chunks. */
  async #inRows(
    cut: AsyncGenerator<Uint8Array>,
    tell: (chunk: Chunk) => void,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const asked = this.#asked(cut);
    let next = await asked.next();
    const take = async (chunk: Chunk) => {
      signal?.throwIfAborted();
      tell({ digest: chunk.digest, size: chunk.size });
      next = await asked.next();
    };
    const row = async function* (): AsyncGenerator<Uint8Array> {
      while (!next.done && next.value.isMissing) {
        yield next.value.bytes;
        await take(next.value);
      }
    };
    while (!next.done) {
      if (next.value.isMissing) await this.#stream(row(), signal);
      else await take(next.value);
    }
  }

  /** Chunks in their order, some of them asked for at once. */
  async *#asked(cut: AsyncGenerator<Uint8Array>): AsyncGenerator<Asked> {
    for (;;) {
      const some: Promise<Asked>[] = [];
      while (some.length < AT_ONCE) {
        const { value, done } = await cut.next();
        if (done) break;
        some.push(this.#ask(Uint8Array.from(value)));
      }
      if (some.length === 0) return;
      yield* await Promise.all(some);
    }
  }

  async #ask(bytes: Uint8Array): Promise<Asked> {
    const chunk = { digest: Digest.hash(bytes), size: bytes.length };
    return { ...chunk, bytes, isMissing: !(await this.#present.has(chunk)) };
  }

  #stored(chunk: Chunk, { digest }: { digest?: Uint8Array | null }): Chunk {
    if (digest && Buffer.from(chunk.digest.bytes).equals(digest)) return chunk;
    throw damaged(`${this.#channel.address} stored something else than blob ${chunk.digest}`);
  }
}

/** Tells whenever a part has been taken, and another is asked for. */
async function* seen(parts: Bytes, tell: () => void): AsyncGenerator<Uint8Array> {
  for await (const part of parts) {
    yield part;
    tell();
  }
}
