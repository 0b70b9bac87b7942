import { damaged } from '../../util/errors.ts';
import { Digest } from '../digest.ts';
import { Directory } from '../directory.ts';
import type { LocalStore } from '../local/store.ts';
import type { DirectoryPutter, DirectoryService } from './service.ts';
import { validatingPutter, walkClosure } from './service.ts';

/** Directories in a local store. */
export class LocalDirectoryService implements DirectoryService {
  readonly #store: LocalStore;

  constructor(store: LocalStore) {
    this.#store = store;
  }

  async get(digest: Digest): Promise<Directory | undefined> {
    const bytes = this.#store.reader.directory(digest.bytes);
    if (bytes && !Digest.hash(bytes).equals(digest)) {
      throw damaged(`the local store's directory ${digest} is damaged`);
    }
    return bytes && Directory.decode(bytes);
  }

  getRecursive(digest: Digest): AsyncIterable<Directory> {
    return walkClosure(
      digest,
      (one) => this.get(one),
      (one) => damaged(`directory ${one} is missing from the local store`),
    );
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
