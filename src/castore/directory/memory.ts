import { damaged } from '../../util/errors.ts';
import type { Digest } from '../digest.ts';
import type { Directory } from '../directory.ts';
import type { DirectoryPutter, DirectoryService } from './service.ts';
import { validatingPutter, walkClosure } from './service.ts';

/** Directories in the memory of this process. */
export class MemoryDirectoryService implements DirectoryService {
  readonly #directories = new Map<string, Directory>();

  async get(digest: Digest, signal?: AbortSignal): Promise<Directory | undefined> {
    signal?.throwIfAborted();
    return this.#directories.get(digest.hex);
  }

  getRecursive(digest: Digest, signal?: AbortSignal): AsyncIterable<Directory> {
    return walkClosure(
      digest,
      (one) => this.get(one, signal),
      (one) => damaged(`directory ${one} is missing`),
    );
  }

  async put(directory: Directory): Promise<void> {
    this.#directories.set(directory.digest.hex, directory);
  }

  putMany(): DirectoryPutter {
    return validatingPutter((directory) => this.put(directory));
  }

  async flush(): Promise<void> {}
}
