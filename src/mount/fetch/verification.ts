import { setImmediate as turn } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import type { Chunk } from '../../castore/blob/service.ts';
import type { Digest } from '../../castore/digest.ts';
import { DigestHasher } from '../../castore/digest.ts';
import type { Table } from '../../castore/local/environment.ts';
import { asBuffer } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { Keeper } from './keeper.ts';

const MARK = Buffer.from([1]);
const MAX_LISTS = 256;
const MAX_REVOKED = 10_000;

/**
 * A blob's digest does not commit to its chunk list, so a list from a peer is provisional: it is used, and
 * marked in the cache, until the whole blob has been there once and was hashed. If that fails, the list is
 * dropped and what was served of the blob is taken back.
 */
export class Verification {
  readonly #keeper: Keeper;
  /** By digest, blobs whose list has not been proven. */
  readonly #marks: Table;
  readonly #lists = new LRUCache<string, readonly Chunk[]>({ max: MAX_LISTS });
  readonly #provisional = new Set<string>();
  readonly #checking = new Map<string, Promise<void>>();
  readonly #revoked = new Set<string>();

  constructor(keeper: Keeper) {
    this.#keeper = keeper;
    this.#marks = keeper.cache.env.table('provisional');
  }

  /** The chunk list of a blob, if it is known. */
  chunks(digest: Digest): readonly Chunk[] | undefined {
    const cached = this.#lists.get(digest.hex);
    if (cached) return cached;
    const stored = this.#keeper.cache.reader.manifest(digest.bytes);
    if (!stored) return undefined;
    this.#lists.set(digest.hex, stored);
    if (this.#marks.get(asBuffer(digest.bytes))) this.#provisional.add(digest.hex);
    return stored;
  }

  /** Takes a peer's list. With `hidden` it is not served from before it is proven. */
  provisional(digest: Digest, chunks: readonly Chunk[], hidden: boolean): void {
    this.#lists.set(digest.hex, chunks);
    this.#provisional.add(digest.hex);
    if (hidden) return;
    void this.#keeper.note(this.#marks, digest.bytes, MARK);
    this.#keeper.manifest(digest, chunks);
  }

  isProvisional(digest: Digest): boolean {
    return this.#provisional.has(digest.hex);
  }

  /** A blob that a peer lied about is not asked for again. */
  refuseRevoked(digest: Digest): void {
    if (this.#revoked.has(digest.hex)) throw damaged(`the store's chunk list of blob ${digest} is wrong`);
  }

  /** Hashes a blob all of whose chunks are in the cache. Throws DATA_LOSS when it is not what its digest says. */
  check(digest: Digest, chunks: readonly Chunk[]): Promise<void> {
    let checking = this.#checking.get(digest.hex);
    if (!checking) {
      checking = this.#check(digest, chunks).finally(() => this.#checking.delete(digest.hex));
      this.#checking.set(digest.hex, checking);
    }
    return checking;
  }

  async #check(digest: Digest, chunks: readonly Chunk[]): Promise<void> {
    const { reader } = this.#keeper.cache;
    const hasher = new DigestHasher();
    for (const chunk of chunks) {
      const bytes = Buffer.allocUnsafe(chunk.size);
      // Committed by now, or gone again: then it is checked another time.
      if ((await this.#settledChunk(reader, chunk, bytes)) !== chunk.size) return;
      hasher.update(bytes);
      await turn();
    }
    this.#provisional.delete(digest.hex);
    if (hasher.digest().equals(digest)) {
      void this.#keeper.note(this.#marks, digest.bytes, new Uint8Array());
      this.#keeper.manifest(digest, chunks);
      return;
    }
    if (this.#revoked.size < MAX_REVOKED) this.#revoked.add(digest.hex);
    this.#lists.delete(digest.hex);
    this.#keeper.forgetManifest(digest);
    void this.#keeper.note(this.#marks, digest.bytes, new Uint8Array());
    this.#keeper.recipient.revoke(digest.bytes);
    log.error('the store lied about the chunks of a blob; what was read of it is taken back', {
      blob: String(digest),
    });
    throw damaged(`the contents of blob ${digest} are wrong`);
  }

  async #settledChunk(
    reader: Keeper['cache']['reader'],
    { digest, size }: Chunk,
    out: Buffer,
  ): Promise<number | undefined> {
    for (let tries = 0; tries < 100; tries++) {
      const count = reader.readChunk(digest.bytes, 0, size, out, 0);
      if (count !== undefined) return count;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return undefined;
  }
}
