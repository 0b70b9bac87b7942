import type { ObjectStoreBlobService } from '../../../castore/blob/object-store.ts';
import type { ObjectStoreDirectoryService } from '../../../castore/directory/object-store.ts';
import type { FileNode, Node } from '../../../castore/node.ts';
import { filesOf } from '../../../castore/walk.ts';
import { eachOf } from '../../../util/async/each-of.ts';
import { isDamage } from '../../../util/errors.ts';

const ASKED_AT_ONCE = 32;

/** Keeps what a path info refers to that is to be put into a bucket, but for what was just put. */
export class BucketKeeper {
  readonly #blobs: ObjectStoreBlobService;
  readonly #directories: ObjectStoreDirectoryService;

  constructor(blobs: ObjectStoreBlobService, directories: ObjectStoreDirectoryService) {
    this.#blobs = blobs;
    this.#directories = directories;
  }

  /** See `Bucket`. */
  async keep(root: Node, signal?: AbortSignal): Promise<boolean> {
    if (root.kind === 'symlink') return true;
    if (root.kind === 'file') return this.#blobs.keep(root, signal);
    if (!(await this.#directories.keep(root.digest, signal))) return false;
    let isWhole = true;
    const keep = async (file: FileNode, abort: AbortSignal) => {
      isWhole &&= await this.#blobs.keep(file, abort);
    };
    try {
      for await (const directory of this.#directories.getRecursive(root.digest, signal))
        await eachOf(filesOf(directory), ASKED_AT_ONCE, signal, keep);
    } catch (error) {
      if (isDamage(error)) return false;
      throw error;
    }
    return isWhole;
  }
}
