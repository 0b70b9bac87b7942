import type { Chunk } from '../../castore/blob/service.ts';
import type { DirectoryEntry } from '../../fs/need.ts';
import type { AheadQueue } from './ahead-queue.ts';
import type { FindDirectory } from './tree-walk.ts';
import { TreeWalk } from './tree-walk.ts';

/** Most files read ahead, and how many at first. */
const MAX_FILES = 512;
const FIRST_FILES = 8;
/** Most bytes that they have together, for each of them: where they are larger, there are fewer. */
const BYTES_A_FILE = 16 << 10;
/** Readers that are followed, and those of them that read the same store path. */
const MAX_READERS = 64;
const MAX_IN_ONE = 8;

interface Reader {
  readonly walk: TreeWalk;
  /** How many files were read ahead last. */
  files: number;
}

/**
 * Fetches files along the reading of a tree: whoever reads two, one behind the other, will want the next, and each
 * by itself would cost a round trip. What is read ahead doubles while the order is kept.
 */
export class Neighbours {
  readonly #queue: AheadQueue;
  readonly #find: FindDirectory;
  /** The one that has read last comes first. */
  #readers: readonly Reader[] = [];

  constructor(queue: AheadQueue, find: FindDirectory) {
    this.#queue = queue;
    this.#find = find;
  }

  /**
   * Notes that a file was wanted and not there; `get` fetches one of its neighbours unless that is there. `way`: the
   * directories above it, the root of the store path first.
   */
  note(way: readonly DirectoryEntry[], get: (file: Chunk) => Promise<void>): void {
    const here = this.#readers.filter(({ walk }) => walk.isIn(way));
    // What has been passed is on its way, or was taken from the cache.
    if (here.some(({ walk }) => walk.hasPassed(way))) return;
    for (const reader of here) {
      const comes = reader.walk.comesTo(way);
      if (!comes) continue;
      this.#follow(reader);
      // One file in each of two directories is no order yet.
      if (comes === 'leaving' && reader.files === 0) return;
      reader.files = Math.min(MAX_FILES, reader.files * 2 || FIRST_FILES);
      this.#readAhead(reader, get);
      return;
    }
    const left = here.find(({ walk }) => walk.isAt(way)) ?? here[MAX_IN_ONE - 1];
    this.#follow({ walk: new TreeWalk(way, this.#find), files: 0 }, left);
  }

  /** Puts a reader first, perhaps in the place of another. */
  #follow(reader: Reader, left = reader): void {
    this.#readers = [reader, ...this.#readers.filter((one) => one !== left)].slice(0, MAX_READERS);
  }

  #readAhead({ walk, files }: Reader, get: (file: Chunk) => Promise<void>): void {
    for (let found = 0, bytes = 0; found < files && bytes <= files * BYTES_A_FILE; found++) {
      const file = walk.next();
      if (!file) return;
      bytes += file.size;
      this.#queue.add(file.size, () => get(file));
    }
  }
}
