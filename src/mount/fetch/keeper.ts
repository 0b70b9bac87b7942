import { LRUCache } from 'lru-cache';
import type { Groups } from '../../castore/bao/group-set.ts';
import type { Chunk } from '../../castore/blob/service.ts';
import type { Digest } from '../../castore/digest.ts';
import type { Directory } from '../../castore/directory.ts';
import { LARGE_DIRECTORY, shared } from '../../castore/large-directory.ts';
import { CacheFiller } from '../../castore/local/filler.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import type { Table } from '../../castore/local/table.ts';
import type { FreshItem } from '../../fs/fresh-source.ts';
import { encodeChunks } from '../../fs/fresh-source.ts';
import { PathInfoTable } from '../../store/path-info/local.ts';
import { decodePathInfo, encodePathInfo } from '../../store/path-info/message.ts';
import type { PathInfo } from '../../store/path-info/path-info.ts';
import { latin1 } from '../../util/bytes.ts';

/** Bytes served from memory, not from the cache. */
const MAX_IN_MEMORY = 64 << 20;

/** Recipient of verified content. It also hears when the cache has an item, and when one proves wrong. */
export interface Recipient {
  deliver(items: readonly FreshItem[]): void;
  settled(items: readonly Pick<FreshItem, 'kind' | 'key'>[]): void;
  /** A part of a blob has been proven, whose list was lent. */
  proven(blob: Uint8Array, groups: Groups): void;
  /** The contents of a blob turned out to be wrong: nothing of it may be served any more. */
  revoke(blob: Uint8Array): void;
}

/**
 * Hands verified content to whoever waits, at once, and keeps it in the cache, whose commits take their time.
 */
export class Keeper {
  readonly cache: LocalStore;
  readonly infos: PathInfoTable;
  readonly recipient: Recipient;
  /** Where content comes from, for people. */
  readonly peer: string;
  /** Objects and bytes that have come from there. */
  readonly fetched = { objects: 0, bytes: 0 };
  readonly #filler: CacheFiller;
  /** Items that have been handed on but not committed. */
  readonly #pending = new Map<string, Uint8Array>();
  /** Items that the cache could not take (a full disk): served from memory until newer ones need the room. */
  readonly #homeless = this.#inMemory();
  /** Chunk lists that have been lent, likewise. */
  readonly #lent = this.#inMemory();
  /** Bytes that have been handed on but not committed. */
  uncommitted = 0;

  constructor(cache: LocalStore, recipient: Recipient, peer: string) {
    this.peer = peer;
    this.cache = cache;
    this.recipient = recipient;
    this.infos = new PathInfoTable(cache.env);
    this.#filler = new CacheFiller(cache.env);
  }

  #inMemory(): LRUCache<string, FreshItem> {
    return new LRUCache({
      maxSize: MAX_IN_MEMORY,
      sizeCalculation: (item) => item.bytes.length + 64,
      dispose: ({ kind, key }) => this.recipient.settled([{ kind, key }]),
    });
  }

  pathInfo(info: PathInfo): Promise<void> {
    const item: FreshItem = { kind: 'pathInfo', key: info.storePath.hash, bytes: encodePathInfo(info) };
    const row = this.#filler.row(this.infos.table, item.key, this.infos.row(info));
    return this.#keep(item, item.bytes.length, this.infos.table, row);
  }

  directory({ digest, bytes }: Directory): void {
    // A message would copy a large one for each of the threads that serve.
    const lent = bytes.length < LARGE_DIRECTORY ? bytes : shared(bytes);
    const item: FreshItem = { kind: 'directory', key: digest.bytes, bytes: lent };
    const row = this.#filler.directory(digest, bytes);
    void this.#keep(item, bytes.length, this.cache.env.directories, row);
  }

  chunk(digest: Digest, bytes: Uint8Array): void {
    const { row, kept } = this.#filler.chunk(digest, bytes);
    const item: FreshItem = { kind: 'chunk', key: digest.bytes, bytes: row };
    void this.#keep(item, bytes.length, this.cache.env.chunks, kept);
  }

  /** A chunk that nobody waits for. Resolves when the cache has it. */
  quietly(digest: Digest, bytes: Uint8Array): Promise<void> {
    return this.#filler.chunk(digest, bytes).kept;
  }

  manifest(digest: Digest, chunks: readonly Chunk[]): void {
    this.#lent.delete(nameOf('manifest', digest.bytes));
    const item: FreshItem = { kind: 'manifest', key: digest.bytes, bytes: encodeChunks(chunks) };
    const row = this.#filler.manifest(digest, chunks);
    void this.#keep(item, item.bytes.length, this.cache.env.manifests, row);
  }

  /**
   * Hands on a chunk list that nothing has proven, to be read by only where `Recipient.proven` says so.
   */
  lend(digest: Digest, chunks: readonly Chunk[]): void {
    const item: FreshItem = {
      kind: 'manifest',
      key: digest.bytes,
      bytes: encodeChunks(chunks),
      isProvenInParts: true,
    };
    this.#lent.set(nameOf('manifest', digest.bytes), item);
    this.recipient.deliver([item]);
  }

  /** Keeps a chunk list that has been lent, for the next time that this cache is used. */
  keepLent(digest: Digest, chunks: readonly Chunk[]): void {
    void this.#filler.manifest(digest, chunks);
  }

  /** Copies a chunk that those who serve have into `out`; whether it was there. */
  read({ digest, size }: Chunk, out: Uint8Array, at: number): boolean {
    const name = nameOf('chunk', digest.bytes);
    const fresh = this.#pending.get(name) ?? this.#homeless.get(name)?.bytes;
    return this.cache.reader.readChunk(digest.bytes, 0, size, out, at, fresh) === size;
  }

  /** Whether those who serve can read a chunk or directory. */
  has(kind: 'chunk' | 'directory', digest: Digest): boolean {
    const name = nameOf(kind, digest.bytes);
    if (this.#pending.has(name) || this.#homeless.has(name)) return true;
    if (kind === 'directory') return this.cache.reader.directory(digest.bytes) !== undefined;
    if (this.cache.reader.hasChunk(digest.bytes)) return true;
    // Whoever writes it anew is to know that it has to.
    if (this.cache.reader.isRotten(digest.bytes)) this.cache.env.rotten.note(digest);
    return false;
  }

  /** Whether those who serve seem to have a chunk; it is not hashed for this. */
  lists(digest: Digest): boolean {
    const name = nameOf('chunk', digest.bytes);
    return this.#pending.has(name) || this.#homeless.has(name) || this.cache.reader.listsChunk(digest.bytes);
  }

  /** A path info that those who serve have. */
  infoOf(hash: Uint8Array): PathInfo | undefined {
    const name = nameOf('pathInfo', hash);
    const fresh = this.#pending.get(name) ?? this.#homeless.get(name)?.bytes;
    return fresh ? decodePathInfo(fresh) : this.infos.get(hash);
  }

  /** The encoding of a directory that those who serve have. */
  encodedDirectory(digest: Uint8Array): Uint8Array | undefined {
    const name = nameOf('directory', digest);
    return this.#pending.get(name) ?? this.#homeless.get(name)?.bytes ?? this.cache.reader.directory(digest);
  }

  #isCached(table: Table, key: Uint8Array): boolean {
    this.cache.env.refresh();
    return table.has(key);
  }

  /** Takes a chunk list back. Resolves when it is no longer in the cache. */
  forgetManifest(digest: Digest): Promise<void> {
    const name = nameOf('manifest', digest.bytes);
    this.#lent.delete(name);
    this.#homeless.delete(name);
    this.#pending.delete(name);
    this.recipient.settled([{ kind: 'manifest', key: digest.bytes }]);
    return this.#filler.row(this.cache.env.manifests, digest.bytes, new Uint8Array());
  }

  /** Notes a fact of a table of its own, or forgets it. */
  note(table: Parameters<CacheFiller['row']>[0], key: Uint8Array, value: Uint8Array): Promise<void> {
    return this.#filler.row(table, key, value);
  }

  /** `size`: of what has come, in bytes. */
  async #keep(item: FreshItem, size: number, table: Table, committed: Promise<void>): Promise<void> {
    const name = nameOf(item.kind, item.key);
    this.fetched.objects++;
    this.fetched.bytes += size;
    this.recipient.deliver([item]);
    this.#pending.set(name, item.bytes);
    this.uncommitted += item.bytes.length;
    await committed;
    this.uncommitted -= item.bytes.length;
    // A list that was taken back, or has come anew since, is not what those who serve have now.
    if (this.#pending.get(name) !== item.bytes) return;
    this.#pending.delete(name);
    if (this.#isCached(table, item.key)) this.recipient.settled([{ kind: item.kind, key: item.key }]);
    else this.#homeless.set(name, item);
  }

  /** Whether the cache could not take something of late. */
  get lacksRoom(): boolean {
    return this.#homeless.size > 0;
  }

  close(): Promise<void> {
    return this.#filler.close();
  }
}

function nameOf(kind: FreshItem['kind'], key: Uint8Array): string {
  return kind[0] + latin1(key);
}
