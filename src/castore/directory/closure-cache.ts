import { LRUCache } from 'lru-cache';
import type { Digest } from '../digest.ts';
import type { Directory } from '../directory.ts';
import { CachedDirectoryService } from './cached.ts';
import type { DirectoryPutter, DirectoryService } from './service.ts';
import { closureAmong } from './service.ts';

/** Directories that were asked for, of which one may be the root of what is missing. */
const MAX_ASKED = 1000;
/** Roots below which nothing was missing when that was looked at. */
const MAX_COMPLETE = 100_000;

/** The service that keeps, and the roots of which it should have all. */
export interface Near {
  readonly directories: DirectoryService;
  roots(): AsyncIterable<Digest>;
}

/**
 * A cache of directories before a service that knows only whole closures by their roots. What is missing in the cache
 * is a root, or something below one of which others kept a part: then it is looked for below those. `near` is called
 * when it is first needed.
 */
export function closureCache(near: () => Near, far: DirectoryService): DirectoryService {
  const kept = new KeptDirectories(near);
  return new CachedDirectoryService(kept, new FoundDirectories(far, kept), 'far');
}

/** The near service, which remembers what was asked of it. */
class KeptDirectories implements DirectoryService {
  readonly #near: () => Near;
  readonly #asked = new LRUCache<string, Digest>({ max: MAX_ASKED });

  constructor(near: () => Near) {
    this.#near = near;
  }

  async get(digest: Digest, signal?: AbortSignal): Promise<Directory | undefined> {
    const directory = await this.#near().directories.get(digest, signal);
    if (directory) this.#asked.set(digest.hex, digest);
    return directory;
  }

  getRecursive(digest: Digest, signal?: AbortSignal): AsyncIterable<Directory> {
    return this.#near().directories.getRecursive(digest, signal);
  }

  /** Every root, and what may be one. */
  async *roots(): AsyncGenerator<Digest> {
    yield* this.#asked.values();
    yield* this.#near().roots();
  }

  put(directory: Directory): Promise<void> {
    return this.#near().directories.put(directory);
  }

  putMany(): DirectoryPutter {
    return this.#near().directories.putMany();
  }

  flush(): Promise<void> {
    return this.#near().directories.flush();
  }
}

/** The far service, of which whatever is below a known root can be asked for. */
class FoundDirectories implements DirectoryService {
  readonly #far: DirectoryService;
  readonly #kept: KeptDirectories;
  readonly #complete = new LRUCache<string, true>({ max: MAX_COMPLETE });
  /** The closure in which something was found last: likely there is more. */
  #last: ReadonlyMap<string, Directory> = new Map();

  constructor(far: DirectoryService, kept: KeptDirectories) {
    this.#far = far;
    this.#kept = kept;
  }

  get(digest: Digest, signal?: AbortSignal): Promise<Directory | undefined> {
    return this.#far.get(digest, signal);
  }

  async *getRecursive(digest: Digest, signal?: AbortSignal): AsyncGenerator<Directory> {
    let isRoot = false;
    for await (const directory of this.#far.getRecursive(digest, signal)) {
      isRoot = true;
      yield directory;
    }
    if (isRoot) return;
    if (!this.#last.has(digest.hex)) await this.#search(digest, signal);
    if (this.#last.has(digest.hex)) yield* await closureAmong(digest, this.#last);
  }

  /** Looks below the roots of which something is missing. */
  async #search(digest: Digest, signal?: AbortSignal): Promise<void> {
    for (const root of await Array.fromAsync(this.#kept.roots()).catch(() => [])) {
      if (root.equals(digest) || this.#complete.has(root.hex)) continue;
      this.#complete.set(root.hex, true);
      if (await this.#isKept(root)) continue;
      const closure = await Array.fromAsync(this.#far.getRecursive(root, signal));
      this.#last = new Map(closure.map((directory) => [directory.digest.hex, directory]));
      if (this.#last.has(digest.hex)) return;
    }
  }

  async #isKept(root: Digest): Promise<boolean> {
    try {
      return (await Array.fromAsync(this.#kept.getRecursive(root))).length > 0;
    } catch {
      return false;
    }
  }

  put(directory: Directory): Promise<void> {
    return this.#far.put(directory);
  }

  putMany(): DirectoryPutter {
    return this.#far.putMany();
  }

  flush(): Promise<void> {
    return this.#far.flush();
  }
}
