import type Long from 'long';
import { LRUCache } from 'lru-cache';
import type { BlobService, Chunk } from '../../../castore/blob/service.ts';
import { SINGLE_CHUNK_LIMIT } from '../../../castore/blob/service.ts';
import { toBigInt } from '../../../proto/long.ts';
import { zstdDecompressStream } from '../../../util/compression/zstd.ts';
import { invalid, isDamage, StoreError } from '../../../util/errors.ts';
import type { Resource } from './resource-name.ts';

/** What a stream of zstd may refer to, as many bytes behind: what every decoder has to be able to (RFC 8878). */
const ZSTD_WINDOW_LOG = 23;
/** What it takes to compress or decompress a stream, in bytes. */
export const ZSTD_MEMORY = 10 << 20;
/** Uploads that were cut, and may go on. */
const MAX_CUT = 1024;

export interface WriteMessage {
  resourceName?: string | null;
  writeOffset?: number | Long | null;
  finishWrite?: boolean | null;
  data?: Uint8Array | null;
}

type Upload = Resource & { readonly uuid: string };

/**
 * Uploads by ByteStream. What has come of one that was cut is a blob, too: it is kept as that, and read again when the
 * upload goes on. One that is compressed begins anew.
 */
export class Writes {
  readonly #blobs: BlobService;
  readonly #cut = new LRUCache<string, Chunk>({ max: MAX_CUT });

  constructor(blobs: BlobService) {
    this.#blobs = blobs;
  }

  /** Bytes that are there of an upload that was cut. */
  async committed(upload: Upload, signal: AbortSignal): Promise<number> {
    const begin = this.#cut.get(keyOf(upload));
    return begin && (await this.#blobs.has(begin.digest, { size: begin.size, signal })) ? begin.size : 0;
  }

  /** Takes an upload from its first message; gives how much of it is there. It is durable then. */
  async write(
    upload: Upload,
    first: WriteMessage,
    rest: AsyncIterator<WriteMessage>,
    signal: AbortSignal,
  ): Promise<number> {
    const offset = Number(toBigInt(first.writeOffset));
    const begin = offset > 0 ? this.#cut.get(keyOf(upload)) : undefined;
    if (offset !== (begin?.size ?? 0))
      throw invalid(`cannot go on at ${offset}: ask by QueryWriteStatus where this upload ended`);
    const incoming = new Incoming(upload, first, rest, signal);
    const stored = await this.#put(upload, incoming, begin, signal);
    await this.#blobs.flush();
    if (stored.size === upload.size && stored.digest.equals(upload.digest)) {
      this.#cut.delete(keyOf(upload));
      return upload.isCompressed ? -1 : stored.size;
    }
    if (incoming.isFinished || upload.isCompressed)
      throw invalid(`the contents are not those of blob ${upload.digest} of ${upload.size} bytes`);
    this.#cut.set(keyOf(upload), stored);
    signal.throwIfAborted();
    return stored.size;
  }

  async #put(
    upload: Upload,
    incoming: Incoming,
    begin: Chunk | undefined,
    signal: AbortSignal,
  ): Promise<Chunk> {
    if (upload.isCompressed) {
      const contents = zstdDecompressStream(incoming.parts(), ZSTD_WINDOW_LOG);
      return this.#blobs.put(bounded(decoded(contents), upload.size), { signal });
    }
    const whole = begin ? undefined : incoming.onlyPart();
    if (whole) return this.#blobs.put(whole, { signal });
    const contents = begin ? this.#goingOn(begin, incoming) : incoming.parts();
    // Without the signal: when the call is cut, what has come of it ends there, and is kept.
    return this.#blobs.put(bounded(contents, upload.size));
  }

  async *#goingOn({ digest }: Chunk, incoming: Incoming): AsyncGenerator<Uint8Array> {
    const begin = await this.#blobs.read(digest);
    if (!begin) throw new StoreError('UNAVAILABLE', 'what had come of this upload is gone: begin anew');
    yield* begin;
    yield* incoming.parts();
  }
}

/** What comes of an upload. */
class Incoming {
  readonly #name: string;
  readonly #first: WriteMessage;
  readonly #rest: AsyncIterator<WriteMessage>;
  readonly #signal: AbortSignal;
  readonly #isCompressed: boolean;
  /** Whether the client has said that this is all. */
  isFinished = false;

  constructor(
    { isCompressed }: Upload,
    first: WriteMessage,
    rest: AsyncIterator<WriteMessage>,
    signal: AbortSignal,
  ) {
    this.#name = first.resourceName!;
    this.#first = first;
    this.#rest = rest;
    this.#signal = signal;
    this.#isCompressed = isCompressed;
  }

  /** All of a short upload that came in one message. */
  onlyPart(): Uint8Array | undefined {
    const { data, finishWrite } = this.#first;
    if (!finishWrite || (data?.length ?? 0) > SINGLE_CHUNK_LIMIT) return undefined;
    this.isFinished = true;
    return data ?? new Uint8Array();
  }

  /** Its parts. Where it is cut they end, unless they are compressed: then they fail. */
  async *parts(): AsyncGenerator<Uint8Array> {
    let next = Number(toBigInt(this.#first.writeOffset));
    for (let message: WriteMessage | undefined = this.#first; message; message = await this.#next()) {
      const { resourceName, writeOffset, finishWrite, data } = message;
      if (resourceName && resourceName !== this.#name) throw invalid('another name within one upload');
      if (Number(toBigInt(writeOffset)) !== next) throw invalid(`want ${next} as the next write_offset`);
      next += data?.length ?? 0;
      if (data) yield data;
      this.isFinished = finishWrite ?? false;
      if (this.isFinished) return;
    }
  }

  async #next(): Promise<WriteMessage | undefined> {
    try {
      const { value, done } = await this.#rest.next();
      return done ? undefined : value;
    } catch (error) {
      if (this.#isCompressed || !this.#signal.aborted) throw error;
      return undefined;
    }
  }
}

/** Throws INVALID_ARGUMENT as soon as there is more than there should be. */
async function* bounded(contents: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Uint8Array> {
  let length = 0;
  for await (const part of contents) {
    length += part.length;
    if (length > size) throw invalid(`more contents than ${size} bytes, as many as the name says`);
    yield part;
  }
}

/** What is no zstd is the client's fault. */
async function* decoded(contents: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* contents;
  } catch (error) {
    const isDamaged = isDamage(error);
    throw isDamaged ? invalid(error.message, { cause: error }) : error;
  }
}

function keyOf({ uuid, digest, size }: Upload): string {
  return `${uuid} ${digest.hex} ${size}`;
}
