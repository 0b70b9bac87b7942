import { damaged } from '../../util/errors.ts';
import type { Digest } from '../digest.ts';
import { Directory } from '../directory.ts';
import type { LocalStore } from '../local/store.ts';
import { TreeKeeper } from '../local/tree-keeper.ts';
import type { DirectoryPutter, DirectoryService } from './service.ts';
import { validatingPutter, walkClosure } from './service.ts';

/** Directories in a local store. */
export class LocalDirectoryService implements DirectoryService {
  readonly #store: LocalStore;
  readonly #keeper: TreeKeeper;

  constructor(store: LocalStore) {
    this.#store = store;
    this.#keeper = new TreeKeeper(store);
  }

  async get(digest: Digest, signal?: AbortSignal): Promise<Directory | undefined> {
    signal?.throwIfAborted();
    const directory = this.#read(digest);
    // Whoever asks for this before an upload will leave it out.
    if (directory)
      await this.#store.noting(
        () => this.#keeper.keep(digest.bytes),
        () => undefined,
      );
    return directory;
  }

  #read(digest: Digest): Directory | undefined {
    const { reader, env } = this.#store;
    const bytes = reader.directory(digest.bytes);
    if (bytes) return Directory.decode(bytes);
    if (env.directories.has(digest.bytes)) throw damaged(`the local store's directory ${digest} is damaged`);
    return undefined;
  }

  async *getRecursive(root: Digest, signal?: AbortSignal): AsyncGenerator<Directory> {
    const hold = this.#store.env.useListener?.hold();
    const get = async (one: Digest) => {
      signal?.throwIfAborted();
      const directory = this.#read(one);
      if (hold) for (const { digest } of directory?.children() ?? []) hold.add(digest.bytes);
      return directory;
    };
    try {
      yield* walkClosure(root, get, (one) => damaged(`directory ${one} is missing from the local store`));
    } finally {
      hold?.release();
    }
  }

  async put(directory: Directory): Promise<void> {
    await this.#store.writer.directory(directory);
  }

  putMany(): DirectoryPutter {
    return validatingPutter((directory) => this.put(directory));
  }

  async flush(): Promise<void> {
    await this.#store.writer.flush();
  }
}
