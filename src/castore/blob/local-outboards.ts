import { damaged } from '../../util/errors.ts';
import { heldOutboard } from '../bao/whole.ts';
import { Digest } from '../digest.ts';
import type { LocalStore } from '../local/store.ts';
import type { Chunk, Outboard } from './service.ts';

/** An outboard is cut into chunks of this length: an eighth of a mebibyte proves 32 MiB. */
const CHUNK_LENGTH = 128 << 10;

/**
 * Outboards in a local store. Each is cut into chunks, which lie among those of blobs, and a row lists them: so they are
 * hashed when they are first read, and go with their blob. One that is damaged is as good as none.
 */
export class LocalOutboards {
  readonly #store: LocalStore;

  constructor(store: LocalStore) {
    this.#store = store;
  }

  /** One that has been kept, all of which is there and sound. */
  kept(digest: Digest): Outboard | undefined {
    const { reader } = this.#store;
    const chunks = reader.outboard(digest.bytes);
    if (!chunks) return undefined;
    const lost = chunks.find((chunk) => !reader.hasChunk(chunk.digest.bytes));
    // Whoever writes it again must not rely on it.
    if (lost && reader.isRotten(lost.digest.bytes)) reader.noteRotten(lost.digest);
    return lost ? undefined : this.#outboard(digest, chunks);
  }

  /** Keeps one that has just been made, where that can be. */
  async keep(digest: Digest, outboard: Uint8Array): Promise<Outboard> {
    await this.#store.noting(
      () => this.#write(digest, outboard),
      () => {},
    );
    return heldOutboard(outboard);
  }

  async #write(digest: Digest, outboard: Uint8Array): Promise<void> {
    const { writer } = this.#store;
    const chunks: Chunk[] = [];
    for (let at = 0; at < outboard.length; at += CHUNK_LENGTH) {
      const bytes = outboard.subarray(at, at + CHUNK_LENGTH);
      const chunk = { digest: Digest.hash(bytes), size: bytes.length };
      await writer.chunk(chunk.digest, bytes);
      chunks.push(chunk);
    }
    await writer.outboard(digest, chunks);
    await writer.flush();
  }

  #outboard(digest: Digest, chunks: readonly Chunk[]): Outboard {
    const { reader } = this.#store;
    return {
      length: chunks.reduce((sum, { size }) => sum + size, 0),
      async read(offset, length, signal) {
        signal?.throwIfAborted();
        const out = Buffer.allocUnsafe(length);
        let filled = 0;
        let position = 0;
        for (const chunk of chunks) {
          const from = Math.max(0, offset - position);
          position += chunk.size;
          const count = Math.min(chunk.size - from, length - filled);
          if (count <= 0) continue;
          if (reader.readChunk(chunk.digest.bytes, from, count, out, filled) !== count)
            throw damaged(`a part of the outboard of blob ${digest} has gone from the local store`);
          filled += count;
        }
        return out.subarray(0, filled);
      },
    };
  }
}
