import { LRUCache } from 'lru-cache';
import type { Directory } from '../../castore/directory.ts';
import type { PathDescription } from '../path-info/path-info.ts';
import type { FilePart, Tree } from './tree.ts';
import { readTree } from './tree.ts';

/** Digests that are remembered, of the store paths that were asked for last: some 200 bytes each. */
const MAX_DIGESTS = 1 << 20;

/** Finds the directories and files of the store paths that were asked for, by their digests. */
export class TreeIndex {
  readonly #storeDir: string;
  readonly #trees: LRUCache<string, Tree>;
  readonly #reading = new Map<string, Promise<Tree>>();

  constructor(storeDir: string) {
    this.#storeDir = storeDir;
    this.#trees = new LRUCache<string, Tree>({
      maxSize: MAX_DIGESTS,
      // One that is larger than all is the only one.
      sizeCalculation: ({ directories, parts }) => Math.min(MAX_DIGESTS, 1 + directories.size + parts.size),
    });
  }

  /** The tree of a store path, which is read unless that has been done. */
  async tree(info: PathDescription): Promise<Tree> {
    const key = String(info.storePath);
    const known = this.#trees.get(key);
    if (known) return known;
    const reading = this.#reading.get(key) ?? this.#read(key, info);
    this.#reading.set(key, reading);
    return reading;
  }

  async #read(key: string, info: PathDescription): Promise<Tree> {
    try {
      const tree = await readTree(this.#storeDir, info);
      this.#trees.set(key, tree);
      return tree;
    } finally {
      this.#reading.delete(key);
    }
  }

  directory(hex: string): Directory | undefined {
    return this.#find((tree) => tree.directories.get(hex));
  }

  part(hex: string): FilePart | undefined {
    return this.#find((tree) => tree.parts.get(hex));
  }

  /** Those that were used last come first. */
  #find<T>(look: (tree: Tree) => T | undefined): T | undefined {
    for (const tree of this.#trees.values()) {
      const found = look(tree);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}
