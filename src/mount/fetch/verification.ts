import { LRUCache } from 'lru-cache';
import type { Chunk } from '../../castore/blob/service.ts';
import type { Digest } from '../../castore/digest.ts';
import { DigestHasher } from '../../castore/digest.ts';
import type { Table } from '../../castore/local/table.ts';
import { Turns } from '../../util/async/turns.ts';
import { damaged } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { ChunkList } from './chunk-list.ts';
import type { Keeper } from './keeper.ts';

const MARK = Buffer.from([1]);
const MAX_LISTS = 256;
const MAX_REVOKED = 10_000;
/** A chunk that has been handed on is in the cache after a while: looks for it, and the wait between, in ms. */
const LOOKS = 100;
const LOOK_MS = 20;

/**
 * A blob's digest does not commit to its chunk list, so a list from a peer is provisional: it is used, and
 * marked in the cache, until the whole blob has been there once and was hashed. If that fails, the list is
 * dropped and what was served of the blob is taken back.
 */
export class Verification {
  readonly #keeper: Keeper;
  /** By digest, blobs whose list has not been proven. */
  readonly #marks: Table;
  readonly #lists = new LRUCache<string, ChunkList>({ max: MAX_LISTS });
  readonly #checking = new Map<string, Promise<void>>();
  readonly #revoked = new Set<string>();
  /** Whose list in the cache is wrong, and not yet gone. */
  readonly #dropped = new Set<string>();
  #closed = false;

  constructor(keeper: Keeper) {
    this.#keeper = keeper;
    this.#marks = keeper.cache.env.table('provisional');
  }

  /** The chunk list of a blob, if it is known. */
  list(digest: Digest): ChunkList | undefined {
    const cached = this.#lists.get(digest.hex);
    if (cached) return cached;
    const stored = this.#dropped.has(digest.hex)
      ? undefined
      : this.#keeper.cache.reader.manifest(digest.bytes);
    if (!stored) return undefined;
    return this.#remember(digest, stored, this.#marks.has(digest.bytes));
  }

  #remember(digest: Digest, chunks: readonly Chunk[], provisional: boolean): ChunkList {
    const list = new ChunkList(chunks, provisional, ({ digest }) => this.#keeper.lists(digest));
    this.#lists.set(digest.hex, list);
    return list;
  }

  /** Takes a peer's list. With `hidden` it is not served from before it is proven. */
  provisional(digest: Digest, chunks: readonly Chunk[], hidden: boolean): ChunkList {
    if (!hidden) {
      void this.#keeper.note(this.#marks, digest.bytes, MARK);
      this.#keeper.manifest(digest, chunks);
    }
    return this.#remember(digest, chunks, true);
  }

  /** A blob that a peer lied about is not asked for again. */
  refuseRevoked(digest: Digest): void {
    if (this.#revoked.has(digest.hex)) throw damaged(`the store's chunk list of blob ${digest} is wrong`);
  }

  /** Takes note that the chunks of a list are the blob. */
  proven(digest: Digest, list: ChunkList): void {
    list.provisional = false;
    void this.#keeper.note(this.#marks, digest.bytes, new Uint8Array());
    this.#keeper.manifest(digest, list.chunks);
  }

  /** Checks a blob in the background once all of it is there. */
  checkWhenComplete(digest: Digest, list: ChunkList): void {
    if (!list.provisional || !list.isComplete() || this.#checking.has(digest.hex)) return;
    this.check(digest, list).catch((error) => log.error(error.message));
  }

  /** Hashes a blob all of whose chunks are there. Throws DATA_LOSS when it is not what its digest says. */
  check(digest: Digest, list: ChunkList): Promise<void> {
    let checking = this.#checking.get(digest.hex);
    if (!checking) {
      checking = this.#check(digest, list).finally(() => this.#checking.delete(digest.hex));
      this.#checking.set(digest.hex, checking);
    }
    return checking;
  }

  async #check(digest: Digest, list: ChunkList): Promise<void> {
    const hasher = new DigestHasher();
    const turns = new Turns();
    for (const chunk of list.chunks) {
      const bytes = await this.#chunk(chunk);
      // Gone again, by eviction or the end of the mount: it stays provisional.
      if (!bytes) return;
      hasher.update(bytes);
      if (turns.isDue) await turns.take();
    }
    if (hasher.digest().equals(digest)) {
      this.proven(digest, list);
      return;
    }
    this.#drop(digest, list);
    if (this.#revoked.size < MAX_REVOKED) this.#revoked.add(digest.hex);
    throw damaged(
      `${this.#keeper.peer} gave a wrong chunk list for blob ${digest}; what was read of it is taken back`,
    );
  }

  /**
   * Takes note that a chunk of a list cannot be had. Of a provisional one that may be the list's fault, so it is asked for
   * again.
   */
  doubt(digest: Digest, list: ChunkList): void {
    if (list.provisional && this.#lists.get(digest.hex) === list) this.#drop(digest, list);
  }

  /** Forgets a list, and takes back what was served by it. */
  #drop(digest: Digest, list: ChunkList): void {
    list.provisional = false;
    void this.#keeper.note(this.#marks, digest.bytes, new Uint8Array());
    this.#lists.delete(digest.hex);
    this.#dropped.add(digest.hex);
    void this.#keeper.forgetManifest(digest).finally(() => this.#dropped.delete(digest.hex));
    this.#keeper.recipient.revoke(digest.bytes);
  }

  async #chunk({ digest, size }: Chunk): Promise<Uint8Array | undefined> {
    const bytes = Buffer.allocUnsafe(size);
    for (let looks = 0; looks < LOOKS && !this.#closed; looks++) {
      if (this.#keeper.cache.reader.readChunk(digest.bytes, 0, size, bytes, 0) === size) return bytes;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    return undefined;
  }

  /** Ends the checks that are under way. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#checking.values());
  }
}
