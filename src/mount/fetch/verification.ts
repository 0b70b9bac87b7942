import { LRUCache } from 'lru-cache';
import type { Groups } from '../../castore/bao/group-set.ts';
import { WrongOutboard } from '../../castore/bao/reader.ts';
import type { Chunk } from '../../castore/blob/service.ts';
import type { Digest } from '../../castore/digest.ts';
import { DigestHasher } from '../../castore/digest.ts';
import type { Table } from '../../castore/local/table.ts';
import { Turns } from '../../util/async/turns.ts';
import { damaged, isDamage } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { ChunkRange } from './chunk-list.ts';
import { ChunkList } from './chunk-list.ts';
import type { Keeper } from './keeper.ts';
import type { Proof, ReadChunk } from './proof.ts';

const MARK = Buffer.from([1]);
const MAX_LISTS = 256;
const MAX_REVOKED = 10_000;
/** Chunks that are proven before others have their turn. */
const PROVEN_AT_ONCE = 4;
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
  /** What proves the contents of a list while it is provisional, where there is an outboard. */
  readonly #proofs = new WeakMap<ChunkList, Proof>();
  /** Lists of which nothing is served before all of it has been proven. */
  readonly #hidden = new WeakSet<ChunkList>();
  readonly #tried = new WeakSet<ChunkList>();
  /** Lists for which somebody has asked for an outboard. */
  readonly #asked = new WeakSet<ChunkList>();
  /** Lists with a proof that are in the cache. */
  readonly #kept = new WeakSet<ChunkList>();
  readonly #checking = new Map<string, Promise<void>>();
  readonly #revoked = new Set<string>();
  /** Whose list in the cache is wrong, by how many removals of such a one are under way: the last may have been a new one's. */
  readonly #dropped = new Map<string, number>();
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

  /**
   * Takes a peer's list. With `hidden` it is not served from before it is proven; with a proof, it is where that has been
   * done.
   */
  provisional(digest: Digest, chunks: readonly Chunk[], hidden: boolean, proof?: Proof): ChunkList {
    if (proof) this.#keeper.lend(digest, chunks);
    else if (!hidden) {
      void this.#keeper.note(this.#marks, digest.bytes, MARK);
      this.#keeper.manifest(digest, chunks);
    }
    const list = this.#remember(digest, chunks, true);
    this.#asked.add(list);
    if (hidden) this.#hidden.add(list);
    if (proof) this.#proofs.set(list, proof);
    return list;
  }

  /** Whether a list is from an earlier time that nothing has proven, and of which nobody has asked for an outboard; says so once. */
  wantsProof(list: ChunkList): boolean {
    if (!list.provisional || this.#asked.has(list)) return false;
    this.#asked.add(list);
    return true;
  }

  /** Whether nothing of a blob is to be served yet, as not all of it has been proven. */
  isHidden(list: ChunkList): boolean {
    return list.provisional && this.#hidden.has(list);
  }

  proofOf(list: ChunkList): Proof | undefined {
    return list.provisional ? this.#proofs.get(list) : undefined;
  }

  /**
   * Has what is there of a list with a proof proven, and hands it on. Throws DATA_LOSS where the list is wrong: nothing of
   * that has been served. Where the outboard is, the list is hidden from then on, like one of a peer that has none.
   */
  async prove(digest: Digest, list: ChunkList, wanted: ChunkRange, signal?: AbortSignal): Promise<void> {
    const proof = this.proofOf(list);
    if (!proof) return;
    const read: ReadChunk = (chunk, out, at) => this.#keeper.read(chunk, out, at);
    let groups: Groups | undefined;
    try {
      groups = await proof.prove(list, wanted, read, signal);
    } catch (error) {
      if (!isDamage(error)) throw error;
      if (error instanceof WrongOutboard) {
        log.warn(`${error.message}; of this blob nothing more is read before all of it is there`, {
          store: this.#keeper.peer,
        });
        this.#proofs.delete(list);
        this.#hidden.add(list);
        return;
      }
      this.doubt(digest, list);
      throw damaged(`${this.#keeper.peer} lies about blob ${digest}, or is damaged: ${error.message}`);
    }
    if (proof.isWhole) this.proven(digest, list);
    else if (groups) {
      this.#keep(digest, list);
      this.#keeper.recipient.proven(digest.bytes, groups);
    }
  }

  /** What has been proven so far is there the next time, too; then its list is a provisional one, like any other. */
  #keep(digest: Digest, list: ChunkList): void {
    if (this.#kept.has(list)) return;
    this.#kept.add(list);
    void this.#keeper.note(this.#marks, digest.bytes, MARK);
    this.#keeper.keepLent(digest, list.chunks);
  }

  /** Somebody lacks what has been proven before: they have lost the list. */
  lendAgain(digest: Digest, list: ChunkList): void {
    this.#keeper.lend(digest, list.chunks);
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
    // What is left then is proven when somebody wants it.
    if (this.#tried.has(list)) return;
    if (this.proofOf(list)) this.#tried.add(list);
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
    const turns = new Turns();
    if (this.proofOf(list)) {
      for (let first = 0; first < list.chunks.length && list.provisional; first += PROVEN_AT_ONCE) {
        if (this.#closed) return;
        // One more, for the group that lies in both.
        const end = Math.min(first + PROVEN_AT_ONCE + 1, list.chunks.length);
        await this.prove(digest, list, { first, end });
        if (turns.isDue) await turns.take();
      }
      if (!this.isHidden(list)) return;
    }
    const hasher = new DigestHasher();
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
    this.#removing(digest, 1);
    void this.#keeper.forgetManifest(digest).finally(() => this.#removing(digest, -1));
    this.#keeper.recipient.revoke(digest.bytes);
  }

  #removing({ hex }: Digest, more: number): void {
    const count = (this.#dropped.get(hex) ?? 0) + more;
    if (count > 0) this.#dropped.set(hex, count);
    else this.#dropped.delete(hex);
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
