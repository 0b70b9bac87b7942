import { Digest } from '../../castore/digest.ts';
import type { StoreNeed } from '../../fs/need.ts';
import type { Services } from '../../store/services.ts';
import { latin1 } from '../../util/bytes.ts';
import { StoreError } from '../../util/errors.ts';
import { BlobFetcher } from './blobs.ts';
import { DirectoryFetcher } from './directories.ts';
import type { Keeper } from './keeper.ts';
import type { FetcherOptions, Progress } from './options.ts';

/** How long an absent store path is not asked for again, in milliseconds. */
const ABSENT_MS = 2000;
const MAX_ABSENT = 10_000;

/** Gets what is not local from the services, verifies it, and hands it to the keeper. */
export class Fetcher {
  readonly #services: Services;
  readonly #keeper: Keeper;
  readonly #directories: DirectoryFetcher;
  readonly #blobs: BlobFetcher;
  readonly #absent = new Map<string, number>();

  constructor(services: Services, keeper: Keeper, options: FetcherOptions) {
    this.#services = services;
    this.#keeper = keeper;
    this.#directories = new DirectoryFetcher(services.directories, keeper);
    this.#blobs = new BlobFetcher(services.blobs, keeper, options);
  }

  /** Resolves when the need is met. Throws NOT_FOUND for a store path that does not exist. */
  async fetch(need: StoreNeed, progress: Progress, signal: AbortSignal): Promise<void> {
    switch (need.kind) {
      case 'pathInfo':
        return this.#pathInfo(need.hash, signal);
      case 'pathInfos':
        return this.#pathInfos(progress, signal);
      case 'directory':
        return this.#directories.fetch(Digest.of(need.digest), progress, signal);
      case 'blob':
        return this.#blobs.fetch(need, progress, signal);
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
    void this.#keeper.pathInfo(info);
  }

  /** The listing is read from the cache, so this waits until all of it is there. */
  async #pathInfos(progress: Progress, signal: AbortSignal): Promise<void> {
    let last: Promise<void> | undefined;
    for await (const info of this.#services.pathInfos.list(signal)) {
      progress();
      if (!this.#keeper.infos.get(info.storePath.hash)) last = this.#keeper.pathInfo(info);
    }
    await last;
  }

  async close(): Promise<void> {
    this.#directories.close();
    await this.#blobs.close();
  }
}
