import type { DirectoryIndex } from '../castore/directory.ts';
import { indexLargeDirectory } from '../castore/large-directory.ts';
import type { ContentNeed, IndexNeed } from '../fs/need.ts';
import { needDirectory } from '../fs/need.ts';
import { Limiter } from '../util/async/limiter.ts';
import { damaged } from '../util/errors.ts';

/** Directories that are decoded at once. */
const AT_ONCE = 2;

/** Source and recipient of large directories. */
export interface DirectoryIndexerOptions {
  /** The encoding of a directory that is local. */
  readonly read: (digest: Uint8Array) => Uint8Array | undefined;
  /** Has what is not local fetched. */
  readonly fetch: (need: ContentNeed) => Promise<void>;
  readonly deliver: (digest: Uint8Array, index: DirectoryIndex) => void;
}

/** Has large directories decoded in other threads than those that serve a kernel. */
export class DirectoryIndexer {
  readonly #limiter = new Limiter(AT_ONCE);

  /** Resolves when the index has been delivered. */
  meet(
    { digest, storePath }: IndexNeed,
    options: DirectoryIndexerOptions,
    signal: AbortSignal,
  ): Promise<void> {
    return this.#limiter.run(async () => {
      // An eviction may have taken it meanwhile.
      if (!options.read(digest)) await options.fetch(needDirectory(storePath, digest));
      const bytes = options.read(digest);
      if (!bytes) throw damaged('a directory that has just been there is missing');
      options.deliver(digest, await indexLargeDirectory(bytes, signal));
    }, signal);
  }
}
