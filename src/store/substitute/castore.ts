import { NearFirstBlobService } from '../../castore/blob/near-first.ts';
import { ObjectStoreBlobService } from '../../castore/blob/object-store.ts';
import type {
  BlobService,
  Chunk,
  Outboard,
  OutboardOptions,
  ReadOptions,
} from '../../castore/blob/service.ts';
import type { Digest } from '../../castore/digest.ts';
import { closureCache } from '../../castore/directory/closure-cache.ts';
import { ObjectStoreDirectoryService } from '../../castore/directory/object-store.ts';
import type { DirectoryService } from '../../castore/directory/service.ts';
import type { Directory } from '../../castore/directory.ts';
import { FORMAT } from '../../castore/objects/format.ts';
import type { ObjectStore } from '../../castore/objects/object-store.ts';
import { asBuffer } from '../../util/bytes.ts';
import { damaged, messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { rootsIn } from '../path-info/roots.ts';
import type { Contents, Services } from '../services.ts';

/** How long a cache is left alone that has no castore contents, or whose are of no use, in milliseconds. */
const LEFT_MS = 60_000;
/** More than the format has, in bytes. */
const MAX_FORMAT = 64;

/** The castore contents that a binary cache has beside its NARs, as the objects of a bucket. */
export class CacheCastore {
  readonly contents: Contents;
  readonly #objects: ObjectStore;
  #isThere = false;
  #leftUntil = 0;

  constructor(objects: ObjectStore) {
    this.#objects = objects;
    this.contents = {
      blobs: new ObjectStoreBlobService(objects),
      directories: new ObjectStoreDirectoryService(objects),
    };
  }

  /** Whether they are of use, as far as is known. */
  async isThere(signal?: AbortSignal): Promise<boolean> {
    if (performance.now() < this.#leftUntil) return false;
    if (this.#isThere) return true;
    const format = await this.#objects.get('format', MAX_FORMAT, signal).catch(() => undefined);
    signal?.throwIfAborted();
    this.#isThere = format !== undefined && asBuffer(format.bytes).toString().trim() === FORMAT.trim();
    if (!this.#isThere) this.leave();
    return this.#isThere;
  }

  /** Leaves it alone for a while. */
  leave(): void {
    this.#leftUntil = performance.now() + LEFT_MS;
  }

  /** Takes note that something of it was wrong, or could not be had. */
  failed(error: unknown): void {
    if (performance.now() < this.#leftUntil) return;
    this.leave();
    log.warn('castore contents of a binary cache are of no use; its NARs are taken for a while', {
      error: messageOf(error),
    });
  }

  close(): Promise<void> {
    return this.#objects.close();
  }
}

/**
 * What binary caches have by castore. Of what they do not have, or not right, or not now, it is as if nobody had it: then there
 * are their NARs.
 */
export function castoreOf(caches: readonly CacheCastore[]): Contents {
  return { blobs: new CastoreBlobs(caches), directories: new CastoreDirectories(caches) };
}

/** What is in a store, and the rest from elsewhere, where directories are known by the roots of their trees. */
export function withRest({ blobs, directories, pathInfos }: Services, rest: Contents): Contents {
  const near = () => ({ directories, roots: () => rootsIn(pathInfos) });
  return {
    blobs: new NearFirstBlobService(blobs, rest.blobs),
    directories: closureCache(near, rest.directories),
  };
}

/** What the first gives that has it. */
async function firstOf<T>(
  caches: readonly CacheCastore[],
  signal: AbortSignal | undefined,
  ask: (cache: CacheCastore) => Promise<T | undefined>,
): Promise<T | undefined> {
  for (const cache of caches) {
    if (!(await cache.isThere(signal))) continue;
    try {
      const found = await ask(cache);
      if (found !== undefined) return found;
    } catch (error) {
      signal?.throwIfAborted();
      cache.failed(error);
    }
  }
  return undefined;
}

/** What comes of it; what fails is noted, and damaged for those who read. */
async function* noting<T>(
  cache: CacheCastore,
  parts: AsyncIterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T> {
  try {
    yield* parts;
  } catch (error) {
    signal?.throwIfAborted();
    cache.failed(error);
    throw damaged(messageOf(error), { cause: error });
  }
}

class CastoreBlobs implements BlobService {
  readonly #caches: readonly CacheCastore[];

  constructor(caches: readonly CacheCastore[]) {
    this.#caches = caches;
  }

  chunks(digest: Digest, signal?: AbortSignal): Promise<readonly Chunk[] | undefined> {
    return firstOf(this.#caches, signal, ({ contents }) => contents.blobs.chunks(digest, signal));
  }

  outboard(digest: Digest, options: OutboardOptions = {}): Promise<Outboard | undefined> {
    const { signal } = options;
    return firstOf(this.#caches, signal, async ({ contents }) => contents.blobs.outboard?.(digest, options));
  }

  read(digest: Digest, options: ReadOptions = {}): Promise<AsyncIterable<Uint8Array> | undefined> {
    const { signal } = options;
    return firstOf(this.#caches, signal, async (cache) => {
      const parts = await cache.contents.blobs.read(digest, options);
      return parts && noting(cache, parts, signal);
    });
  }

  has(): Promise<never> {
    return Promise.reject(readOnly());
  }

  put(): Promise<never> {
    return Promise.reject(readOnly());
  }

  async flush(): Promise<void> {}
}

/** Trees of directories by their roots. */
class CastoreDirectories implements DirectoryService {
  readonly #caches: readonly CacheCastore[];

  constructor(caches: readonly CacheCastore[]) {
    this.#caches = caches;
  }

  async get(digest: Digest, signal?: AbortSignal): Promise<Directory | undefined> {
    for await (const directory of this.getRecursive(digest, signal)) return directory;
    return undefined;
  }

  async *getRecursive(digest: Digest, signal?: AbortSignal): AsyncGenerator<Directory> {
    for (const cache of this.#caches) {
      if (!(await cache.isThere(signal))) continue;
      let isThere = false;
      try {
        for await (const directory of cache.contents.directories.getRecursive(digest, signal)) {
          isThere = true;
          yield directory;
        }
      } catch (error) {
        signal?.throwIfAborted();
        cache.failed(error);
        if (isThere) throw damaged(messageOf(error), { cause: error });
      }
      if (isThere) return;
    }
  }

  put(): Promise<never> {
    return Promise.reject(readOnly());
  }

  putMany(): never {
    throw readOnly();
  }

  async flush(): Promise<void> {}
}

function readOnly(): StoreError {
  return new StoreError('FAILED_PRECONDITION', 'binary caches can only be read');
}
