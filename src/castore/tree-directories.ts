import { damaged } from '../util/errors.ts';
import type { Digest } from './digest.ts';
import type { DirectoryService } from './directory/service.ts';
import type { Directory } from './directory.ts';

export type TreeDirectoryService = Pick<DirectoryService, 'get' | 'getRecursive'>;

/** Directories that are kept, in bytes of their encoding; those beyond are asked for one by one. */
const MAX_KEPT = 64 << 20;

/** The directories of a tree: they come in one stream. */
export class TreeDirectories {
  readonly #service: TreeDirectoryService;
  readonly #kept = new Map<string, Directory>();

  private constructor(service: TreeDirectoryService) {
    this.#service = service;
  }

  /** Throws DATA_LOSS when one is missing, as `get` does for those that are asked for one by one. */
  static async open(
    service: TreeDirectoryService,
    root: Digest,
    signal?: AbortSignal,
  ): Promise<TreeDirectories> {
    const tree = new TreeDirectories(service);
    let bytes = 0;
    for await (const directory of service.getRecursive(root, signal)) {
      tree.#kept.set(directory.digest.hex, directory);
      bytes += directory.bytes.length;
      if (bytes > MAX_KEPT) break;
    }
    return tree;
  }

  get(digest: Digest, signal?: AbortSignal): Directory | Promise<Directory> {
    return this.#kept.get(digest.hex) ?? this.#fetch(digest, signal);
  }

  async #fetch(digest: Digest, signal?: AbortSignal): Promise<Directory> {
    const directory = await this.#service.get(digest, signal);
    if (!directory) throw damaged(`directory ${digest} is missing`);
    return directory;
  }
}
