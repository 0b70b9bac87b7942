import { LRUCache } from 'lru-cache';
import { gathered } from '../../util/concurrency.ts';
import { messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { SingleFlight } from '../../util/single-flight.ts';
import type { Digest } from '../digest.ts';
import type { Directory } from '../directory.ts';
import type { DirectoryPutter, DirectoryService } from './service.ts';
import { closureAmong } from './service.ts';

/** Bytes of directories that the near service could not take. */
const MAX_HOMELESS = 64 << 20;
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
 * A cache of directories before a service that knows only whole closures by their roots. A closure that comes from
 * there is kept near, children before their parents, before any of it is given out. What is missing near is a root,
 * or something below one of which others kept a part: then it is looked for below those. A near service that fails
 * costs a warning, and speed.
 */
export class ClosureCache implements DirectoryService {
  readonly #near: () => Near;
  readonly #far: DirectoryService;
  readonly #flights = new SingleFlight<Directory[]>();
  readonly #asked = new LRUCache<string, Digest>({ max: MAX_ASKED });
  readonly #complete = new LRUCache<string, true>({ max: MAX_COMPLETE });
  readonly #homeless = new LRUCache<string, Directory>({
    maxSize: MAX_HOMELESS,
    sizeCalculation: ({ bytes }) => bytes.length + 64,
  });
  #complained = false;

  /** `near` is called when it is first needed. */
  constructor(near: () => Near, far: DirectoryService) {
    this.#near = near;
    this.#far = far;
  }

  async get(digest: Digest, signal?: AbortSignal): Promise<Directory | undefined> {
    const present =
      (await this.#trying(() => this.#near().directories.get(digest, signal))) ??
      this.#homeless.get(digest.hex);
    if (!present) return (await this.#fetch(digest, signal))[0];
    this.#asked.set(digest.hex, digest);
    return present;
  }

  async *getRecursive(digest: Digest, signal?: AbortSignal): AsyncGenerator<Directory> {
    yield* (await this.#whole(digest)) ?? (await this.#fetch(digest, signal));
  }

  /** A closure that is near as a whole. */
  async #whole(root: Digest): Promise<Directory[] | undefined> {
    try {
      const closure = await gathered(this.#near().directories.getRecursive(root));
      return closure.length > 0 ? closure : undefined;
    } catch {
      return undefined;
    }
  }

  /** What is below a directory, from afar, and near when this resolves; nothing when it is not there. */
  #fetch(digest: Digest, signal?: AbortSignal): Promise<Directory[]> {
    const fetch = async (shared: AbortSignal) => {
      const closure = await gathered(this.#far.getRecursive(digest, shared));
      await this.#keep(closure);
      return closure.length > 0 ? closure : this.#search(digest, shared);
    };
    return this.#flights.run(digest.hex, fetch, signal);
  }

  async #keep(closure: readonly Directory[]): Promise<void> {
    if (closure.length === 0) return;
    const isKept = await this.#trying(async () => {
      const near = this.#near().directories;
      for (const directory of closure.toReversed()) await near.put(directory);
      await near.flush();
      return true;
    });
    if (!isKept) for (const directory of closure) this.#homeless.set(directory.digest.hex, directory);
  }

  /** Fetches the roots of which something is missing, until one is above `digest`. */
  async #search(digest: Digest, signal: AbortSignal): Promise<Directory[]> {
    for (const root of [...this.#asked.values(), ...(await this.#roots())]) {
      if (root.equals(digest) || this.#complete.has(root.hex)) continue;
      this.#complete.set(root.hex, true);
      if (await this.#whole(root)) continue;
      const closure = await gathered(this.#far.getRecursive(root, signal));
      await this.#keep(closure);
      const byDigest = new Map(closure.map((directory) => [directory.digest.hex, directory]));
      if (byDigest.has(digest.hex)) return closureAmong(digest, byDigest);
    }
    return [];
  }

  async #roots(): Promise<Digest[]> {
    return (await this.#trying(() => gathered(this.#near().roots()))) ?? [];
  }

  /** What is put is kept when it is read. */
  put(directory: Directory): Promise<void> {
    return this.#far.put(directory);
  }

  putMany(): DirectoryPutter {
    return this.#far.putMany();
  }

  flush(): Promise<void> {
    return this.#far.flush();
  }

  async #trying<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (!this.#complained) log.warn('the cache of directories fails', { error: messageOf(error) });
      this.#complained = true;
      return undefined;
    }
  }
}
