import { chunked } from '../castore/blob/chunker.ts';
import type { Chunk } from '../castore/blob/service.ts';
import { SINGLE_CHUNK_LIMIT } from '../castore/blob/service.ts';
import { Digest, DigestHasher } from '../castore/digest.ts';
import type { Directory } from '../castore/directory.ts';
import type { CacheFiller } from '../castore/local/filler.ts';
import type { LocalStore } from '../castore/local/store.ts';
import type { FreshItem } from '../fs/fresh-source.ts';
import { encodeChunks } from '../fs/fresh-source.ts';
import type { StoreNeed } from '../fs/need.ts';
import { PathInfoTable } from '../store/path-info/local.ts';
import { encodePathInfo } from '../store/path-info/message.ts';
import type { PathInfo } from '../store/path-info/path-info.ts';
import type { Services } from '../store/store.ts';
import { collect, latin1 } from '../util/bytes.ts';
import { damaged, StoreError } from '../util/errors.ts';

/** How long an absent store path is not asked for again. */
const ABSENT_MS = 2000;
const MAX_ABSENT = 10_000;

/** Takes verified content for those who wait, and word of when the cache has it. */
export interface Recipient {
  deliver(items: readonly FreshItem[]): void;
  settled(items: readonly FreshItem[]): void;
}

/** Gets what is not local from the services, verifies it, and fills the cache with it. */
export class Fetcher {
  readonly #services: Services;
  readonly #cache: LocalStore;
  readonly #filler: CacheFiller;
  readonly #infos: PathInfoTable;
  readonly #recipient: Recipient;
  readonly #absent = new Map<string, number>();

  constructor(services: Services, cache: LocalStore, filler: CacheFiller, recipient: Recipient) {
    this.#services = services;
    this.#cache = cache;
    this.#filler = filler;
    this.#infos = new PathInfoTable(cache.env);
    this.#recipient = recipient;
  }

  /** Resolves when the need is met. Throws NOT_FOUND for a store path that does not exist. */
  async fetch(need: StoreNeed, signal: AbortSignal): Promise<void> {
    switch (need.kind) {
      case 'pathInfo':
        return this.#pathInfo(need.hash, signal);
      case 'pathInfos':
        return this.#pathInfos(signal);
      case 'directory':
        return this.#directory(Digest.of(need.digest), signal);
      case 'blob':
        return this.#blob(need, signal);
    }
  }

  async #pathInfo(hash: Uint8Array, signal: AbortSignal): Promise<void> {
    const key = latin1(hash);
    if ((this.#absent.get(key) ?? 0) > Date.now()) throw new StoreError('NOT_FOUND', 'no such store path');
    const info = await this.#services.pathInfos.get(hash, signal);
    if (!info) {
      if (this.#absent.size >= MAX_ABSENT) this.#absent.clear();
      this.#absent.set(key, Date.now() + ABSENT_MS);
      throw new StoreError('NOT_FOUND', 'no such store path');
    }
    this.#absent.delete(key);
    void this.#keepPathInfo(info);
  }

  /** The listing is read from the cache, so this waits until all of it is there. */
  async #pathInfos(signal: AbortSignal): Promise<void> {
    let last: Promise<void> | undefined;
    for await (const info of this.#services.pathInfos.list(signal)) {
      if (!this.#infos.get(info.storePath.hash)) last = this.#keepPathInfo(info);
    }
    await last;
  }

  #keepPathInfo(info: PathInfo): Promise<void> {
    const item: FreshItem = { kind: 'pathInfo', key: info.storePath.hash, bytes: encodePathInfo(info) };
    return this.#keep(item, this.#filler.row(this.#infos.table, item.key, this.#infos.row(info)));
  }

  async #directory(digest: Digest, signal: AbortSignal): Promise<void> {
    const directory = await this.#services.directories.get(digest, signal);
    if (!directory) throw damaged(`directory ${digest} is missing`);
    if (!directory.digest.equals(digest)) throw damaged(`got directory ${directory.digest} for ${digest}`);
    this.#keepDirectory(directory);
  }

  #keepDirectory(directory: Directory): void {
    const { digest, bytes } = directory;
    void this.#keep({ kind: 'directory', key: digest.bytes, bytes }, this.#filler.directory(digest, bytes));
  }

  async #blob(need: StoreNeed & { kind: 'blob' }, signal: AbortSignal): Promise<void> {
    const digest = Digest.of(need.digest);
    if (need.size <= SINGLE_CHUNK_LIMIT) return this.#chunk({ digest, size: need.size }, signal);
    const known = this.#cache.reader.manifest(digest.bytes);
    const chunks = known ?? (await this.#services.blobs.chunks(digest, signal));
    if (!chunks) throw damaged(`blob ${digest} is missing`);
    if (chunks.length === 0) return this.#wholeBlob(digest, need.size, signal);
    const total = chunks.reduce((sum, chunk) => sum + chunk.size, 0);
    if (total !== need.size)
      throw damaged(`the chunks of blob ${digest} have ${total} bytes, want ${need.size}`);
    if (!known) this.#keepManifest(digest, chunks);
    let start = 0;
    const wanted: Chunk[] = [];
    for (const chunk of chunks) {
      const end = start + chunk.size;
      if (end > need.offset && start < need.offset + need.length) wanted.push(chunk);
      start = end;
    }
    await Promise.all(wanted.map((chunk) => this.#chunk(chunk, signal)));
  }

  async #chunk({ digest, size }: Chunk, signal: AbortSignal): Promise<void> {
    if (this.#cache.reader.chunkSize(digest.bytes) !== undefined) return;
    const contents = await this.#services.blobs.read(digest, { signal });
    if (!contents) throw damaged(`blob ${digest} is missing`);
    const bytes = await collect(contents, size);
    if (bytes?.length !== size) throw damaged(`blob ${digest} has another size than ${size}`);
    if (!Digest.hash(bytes).equals(digest)) throw damaged(`the contents of blob ${digest} are wrong`);
    this.#keepChunk(digest, bytes);
  }

  /** A blob without a chunk list is read whole, cut here, and shown when all of it is right. */
  async #wholeBlob(digest: Digest, size: number, signal: AbortSignal): Promise<void> {
    const contents = await this.#services.blobs.read(digest, { signal });
    if (!contents) throw damaged(`blob ${digest} is missing`);
    const hasher = new DigestHasher();
    const chunks: Chunk[] = [];
    let total = 0;
    for await (const part of chunked(contents)) {
      total += part.length;
      if (total > size) throw damaged(`blob ${digest} is longer than its size ${size}`);
      hasher.update(part);
      const chunk = { digest: Digest.hash(part), size: part.length };
      chunks.push(chunk);
      await this.#filler.chunk(chunk.digest, part);
    }
    if (total !== size || !hasher.digest().equals(digest))
      throw damaged(`the contents of blob ${digest} are wrong`);
    if (chunks.length > 1) this.#keepManifest(digest, chunks);
  }

  #keepManifest(digest: Digest, chunks: readonly Chunk[]): void {
    const item: FreshItem = { kind: 'manifest', key: digest.bytes, bytes: encodeChunks(chunks) };
    void this.#keep(item, this.#filler.manifest(digest, chunks));
  }

  #keepChunk(digest: Digest, bytes: Uint8Array): void {
    void this.#keep({ kind: 'chunk', key: digest.bytes, bytes }, this.#filler.chunk(digest, bytes));
  }

  async #keep(item: FreshItem, committed: Promise<void>): Promise<void> {
    this.#recipient.deliver([item]);
    await committed;
    this.#recipient.settled([item]);
  }
}
