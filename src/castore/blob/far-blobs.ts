import { inTime } from '../../util/async/in-time.ts';
import { collect } from '../../util/bytes.ts';
import { damaged, messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { Digest } from '../digest.ts';
import { chunked } from './chunker.ts';
import type { BlobService, Chunk, Outboard } from './service.ts';
import { anotherSize, MAX_CHUNK_LENGTH } from './service.ts';

/** So long somebody who reads waits for an outboard, in milliseconds. */
const OUTBOARD_MS = 5000;

/** A piece of a blob that was cut here; the bytes are valid until the next is asked for. */
export interface Piece extends Chunk {
  readonly bytes: Uint8Array;
}

/**
 * Blobs of a service that is not trusted, for whoever keeps them near. Contents have been hashed by the service, as its
 * contract says, and are not hashed again. Checked here is everything that a digest says nothing of: the sizes that were
 * named elsewhere, and the chunk lists.
 */
export class FarBlobs {
  readonly #service: BlobService;

  constructor(service: BlobService) {
    this.#service = service;
  }

  /**
   * The chunk list of a blob of `size` bytes, if that is known; empty where the blob is to be read as a whole. It is
   * the service's word until all of the blob has been hashed. `undefined` when the blob is not there. Throws DATA_LOSS
   * for a list of another length.
   */
  async chunks(
    digest: Digest,
    size: number | undefined,
    signal?: AbortSignal,
  ): Promise<readonly Chunk[] | undefined> {
    const chunks = await this.#service.chunks(digest, signal);
    if (!chunks || chunks.length === 0) return chunks;
    if (chunks.some((chunk) => chunk.size > MAX_CHUNK_LENGTH)) return [];
    const total = chunks.reduce((sum, chunk) => sum + chunk.size, 0);
    if (size !== undefined && total !== size)
      throw damaged(`the chunks of blob ${digest} have ${total} bytes, want ${size}`);
    return chunks;
  }

  /**
   * The outboard of a blob, if the service has one. That it fails to give it in time is as if it had none: it may have to
   * read all of the blob for it first, and has it for the next who asks.
   */
  async outboard(digest: Digest, signal: AbortSignal): Promise<Outboard | undefined> {
    try {
      const asked = this.#service.outboard?.(digest, { signal });
      return asked && (await inTime(asked, OUTBOARD_MS));
    } catch (error) {
      signal.throwIfAborted();
      log.debug('cannot get an outboard', { blob: digest.hex, error: messageOf(error) });
      return undefined;
    }
  }

  /**
   * All of a chunk or of a short blob. `undefined` when it is not there. Throws DATA_LOSS when it is not `size` bytes
   * long.
   */
  async chunk({ digest, size }: Chunk, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    const contents = await this.#service.read(digest, { size, signal });
    if (!contents) return undefined;
    const bytes = await collect(contents, size);
    if (bytes?.length !== size) throw anotherSize({ digest, size });
    return bytes;
  }

  /** A blob from its start; it is right when the iteration has ended. Throws DATA_LOSS when it is not there. */
  async contents(digest: Digest, signal?: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const contents = await this.#service.read(digest, { signal });
    if (!contents) throw damaged(`blob ${digest} is missing`);
    return contents;
  }

  /**
   * A blob of `size` bytes, if that is known, cut here. Each piece is what its own digest says; that they make the blob
   * is certain when the iteration has ended. Throws DATA_LOSS when they do not, or it is not there.
   */
  async *cut(digest: Digest, size: number | undefined, signal?: AbortSignal): AsyncGenerator<Piece> {
    let total = 0;
    for await (const bytes of chunked(await this.contents(digest, signal))) {
      signal?.throwIfAborted();
      total += bytes.length;
      if (size !== undefined && total > size) throw damaged(`blob ${digest} is longer than its size ${size}`);
      yield { digest: Digest.hash(bytes), size: bytes.length, bytes };
    }
    if (size !== undefined && total !== size)
      throw damaged(`blob ${digest} has ${total} bytes, want ${size}`);
  }
}
