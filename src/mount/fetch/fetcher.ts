import { LRUCache } from 'lru-cache';
import { Digest } from '../../castore/digest.ts';
import type { ContentNeed } from '../../fs/need.ts';
import type { PathInfo } from '../../store/path-info/path-info.ts';
import { isSame } from '../../store/path-info/united.ts';
import type { Services, Store } from '../../store/services.ts';
import { latin1 } from '../../util/bytes.ts';
import { isDamage, StoreError } from '../../util/errors.ts';
import { BlobFetcher } from './blobs.ts';
import { DirectoryFetcher } from './directories.ts';
import type { Keeper } from './keeper.ts';
import type { FetcherOptions, Progress } from './options.ts';
import { Replays } from './replays.ts';
import { Transfers } from './transfers.ts';

/** How long an absent store path is not asked for again, in milliseconds. */
const ABSENT_MS = 2000;
const MAX_ABSENT = 10_000;
/** How long a path is not searched again for content that it turned out to lack, in milliseconds. */
const LOST_MS = 60_000;

type FetchedStore = Pick<Store, keyof Services | 'paths' | 'bucket' | 'signedRoots'>;

/** Gets what is not local from the services, verifies it, and hands it to the keeper. */
export class Fetcher {
  readonly #services: FetchedStore;
  readonly #keeper: Keeper;
  readonly #transfers = new Transfers();
  readonly #directories: DirectoryFetcher;
  readonly #blobs: BlobFetcher;
  readonly #options: FetcherOptions;
  readonly #replays: Replays;
  readonly #absent = new Map<string, number>();
  /** Needs that getting their path did not meet. */
  readonly #lost = new LRUCache<string, true>({ max: MAX_ABSENT, ttl: LOST_MS });

  constructor(services: FetchedStore, keeper: Keeper, options: FetcherOptions) {
    this.#options = options;
    this.#services = services;
    this.#keeper = keeper;
    const contents = services.signedRoots?.contents ?? services;
    const directories = new DirectoryFetcher(contents.directories, keeper, this.#transfers);
    const blobs = new BlobFetcher(contents.blobs, keeper, this.#transfers, options);
    this.#directories = directories;
    this.#blobs = blobs;
    this.#replays = new Replays({ store: services, keeper, directories, blobs });
  }

  /** Resolves when the need is met. Throws NOT_FOUND for a store path that does not exist. */
  fetch(need: ContentNeed, progress: Progress, signal: AbortSignal): Promise<void> {
    const fetched = this.#transfers.beside(() => this.#fetch(need, progress, signal));
    // Whole paths have come when they are looked into.
    if (this.#options.prefetch && !this.#services.paths && 'storePath' in need)
      this.#replays.entered(need.storePath);
    return fetched;
  }

  /** Fetches what the profile of a store path names. False when it has none. */
  replay(info: PathInfo, signal: AbortSignal): Promise<boolean> {
    return this.#replays.replay(info, signal);
  }

  async #fetch(need: ContentNeed, progress: Progress, signal: AbortSignal): Promise<void> {
    switch (need.kind) {
      case 'pathInfo':
        return this.#pathInfo(need.hash, progress, signal);
      case 'pathInfos':
        return this.#pathInfos(progress, signal);
      case 'directory':
        return this.#contents(need, progress, signal, () =>
          this.#directories.fetch(Digest.of(need.digest), progress, signal),
        );
      case 'blob':
        return this.#contents(need, progress, signal, () => this.#blobs.fetch(need, progress, signal));
    }
  }

  async #pathInfo(hash: Uint8Array, onProgress: Progress, signal: AbortSignal): Promise<void> {
    const key = latin1(hash);
    if ((this.#absent.get(key) ?? 0) > performance.now())
      throw new StoreError('NOT_FOUND', 'no such store path');
    let came = false;
    const onPart = () => {
      came = true;
      onProgress();
    };
    const { pathInfos, signedRoots } = this.#services;
    const info = await this.#watching(
      onPart,
      async () => (await signedRoots?.pathInfo(hash, signal)) ?? pathInfos.get(hash, signal),
    );
    if (!info) {
      if (this.#absent.size >= MAX_ABSENT) this.#absent.clear();
      this.#absent.set(key, performance.now() + ABSENT_MS);
      throw new StoreError('NOT_FOUND', 'no such store path');
    }
    this.#absent.delete(key);
    if (came) this.#keeper.fetched.bytes += Number(info.narSize);
    this.#replays.found(info);
    void this.#keeper.pathInfo(info);
  }

  /** Does what may have whole paths brought, and tells of what arrives of them meanwhile. */
  async #watching<T>(onProgress: Progress, work: () => Promise<T>): Promise<T> {
    const stop = this.#services.paths?.watch(onProgress);
    try {
      return await work();
    } finally {
      stop?.();
    }
  }

  /**
   * Gets contents. Where they come by whole store paths only and have gone since, fetches their path again; a peer may have
   * such a store, and does so when it is asked for the path.
   */
  async #contents(
    { key, storePath }: ContentNeed & { storePath: Uint8Array },
    onProgress: Progress,
    signal: AbortSignal,
    get: () => Promise<void>,
  ): Promise<void> {
    try {
      await get();
    } catch (error) {
      const lost = isDamage(error);
      if (!lost || this.#lost.has(key)) throw error;
      const { paths, pathInfos } = this.#services;
      const again = () => (paths ? paths.fetch(storePath, signal) : pathInfos.get(storePath, signal));
      if (!(await this.#watching(onProgress, again))) throw error;
      await get().catch((still) => {
        // The path has other contents by now: it does not help to get them for every read.
        this.#lost.set(key, true);
        throw still;
      });
    }
  }

  /** The listing is read from the cache, so this waits until all of it is there. */
  async #pathInfos(progress: Progress, signal: AbortSignal): Promise<void> {
    let last: Promise<void> | undefined;
    try {
      for await (const info of this.#services.pathInfos.list(signal)) {
        progress();
        const kept = this.#keeper.infos.get(info.storePath.hash);
        if (!kept || !isSame(kept, info)) last = this.#keeper.pathInfo(info);
      }
    } catch (error) {
      // A store that cannot tell what it has: then it is what the cache has.
      if (!(error instanceof StoreError) || error.code !== 'UNIMPLEMENTED') throw error;
    }
    await last;
  }

  async close(): Promise<void> {
    this.#replays.close();
    this.#directories.close();
    await this.#blobs.close();
  }
}
