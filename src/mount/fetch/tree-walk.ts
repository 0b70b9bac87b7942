import type { Chunk } from '../../castore/blob/service.ts';
import { Directory } from '../../castore/directory.ts';
import { LARGE_DIRECTORY } from '../../castore/large-directory.ts';
import type { DirectoryEntry } from '../../fs/need.ts';
import { asBuffer } from '../../util/bytes.ts';

/** Larger files are no part of a walk: they come as they are read. In bytes. */
export const MAX_SIZE = 1 << 20;
/** Most files between two reads that count as in order: those between were there. */
const MAX_GAP = 8;
/** Most entries that are looked at for the next files. */
const MAX_ENTRIES = 4096;

/** Gives the encoding of a directory that is here. */
export type FindDirectory = (digest: Uint8Array) => Uint8Array | undefined;

/** A directory on the way from the root of a store path to a place in it, and the entry of it that comes next. */
interface Place {
  readonly directory: Directory;
  next: number;
}

/**
 * Somebody's walk through a store path in the order of its listings, as `cp -r`, `tar` and `find` go: through one directory,
 * and, once they have been seen to leave it in that order, through all that follows, in and out of subdirectories.
 */
export class TreeWalk {
  readonly #find: FindDirectory;
  /** Since when nothing was left out. */
  #start: readonly DirectoryEntry[];
  /** Where it is, the root first. */
  #places: Place[];
  #goesOn = false;

  /** A walk that begins behind a file. `way`: the directories above it, the root first, and the entry of each. */
  constructor(way: readonly DirectoryEntry[], find: FindDirectory) {
    this.#find = find;
    this.#start = way;
    this.#places = way.flatMap(({ directory, entry }) => {
      const read = this.#read(directory);
      return read ? [{ directory: read, next: entry + 1 }] : [];
    });
    if (this.#places.length < way.length) this.#places = [];
  }

  /** Whether it is a walk through the same store path. */
  isIn([root]: readonly DirectoryEntry[]): boolean {
    return asBuffer(this.#start[0]!.directory).equals(root!.directory);
  }

  /** Whether a file of the same store path is in the directory where the walk is. */
  isAt(way: readonly DirectoryEntry[]): boolean {
    const last = way.length - 1;
    return (
      this.#places.length === way.length && way.every(({ entry }, i) => i === last || entry === this.#at(i))
    );
  }

  /** Whether the walk has come by a file already. */
  hasPassed(way: readonly DirectoryEntry[]): boolean {
    // What lies below this directory has been left out.
    if (!this.#goesOn && !this.isAt(way)) return false;
    const isBehindStart = order(way, (i) => this.#start[i]?.entry) >= 0;
    return isBehindStart && order(way, (i) => this.#at(i)) <= 0;
  }

  /** Goes on behind a file, if that is one of those that come next: it may be the first one that is in another directory. */
  comesTo(way: readonly DirectoryEntry[]): boolean | 'leaving' {
    for (const goesOn of [true, false]) {
      const ahead = this.#copy(goesOn);
      for (let files = 0; files <= MAX_GAP && ahead.next(); files++) {
        if (order(way, (i) => ahead.#at(i)) !== 0) continue;
        const leaves = !this.#goesOn && !this.isAt(way);
        // Whoever has not left a directory before may come from anywhere.
        if (leaves && files > 0) return false;
        this.#goesOn = goesOn && (this.#goesOn || leaves);
        if (leaves) this.#start = way;
        this.#places = ahead.#places;
        return leaves ? 'leaving' : true;
      }
    }
    return false;
  }

  #copy(goesOn: boolean): TreeWalk {
    const copy = new TreeWalk([], this.#find);
    copy.#places = this.#places.map((place) => ({ ...place }));
    copy.#goesOn = goesOn;
    return copy;
  }

  /** The entry of a directory on the way that it came by last. */
  #at(depth: number): number | undefined {
    const place = this.#places[depth];
    return place && place.next - 1;
  }

  /** The next file, unless it is large; `undefined` at the end, or when it is far to it. */
  next(): Chunk | undefined {
    const places = this.#places;
    for (let entries = 0; entries < MAX_ENTRIES && places.length > 0; entries++) {
      const place = places.at(-1)!;
      if (place.next >= place.directory.length) {
        if (!this.#goesOn || places.length === 1) return undefined;
        places.pop();
        continue;
      }
      const node = place.directory.node(place.next++);
      if (node.kind === 'file' && node.size > 0n && node.size <= MAX_SIZE)
        return { digest: node.digest, size: Number(node.size) };
      const directory = node.kind === 'directory' && this.#goesOn ? this.#read(node.digest.bytes) : undefined;
      if (directory) places.push({ directory, next: 0 });
    }
    return undefined;
  }

  #read(digest: Uint8Array): Directory | undefined {
    const bytes = this.#find(digest);
    return bytes && bytes.length < LARGE_DIRECTORY ? Directory.decode(bytes) : undefined;
  }
}

/** Whether a file comes before another place in the order of the listings (below 0), behind it, or is there. */
function order(way: readonly DirectoryEntry[], at: (depth: number) => number | undefined): number {
  for (const [i, { entry }] of way.entries()) {
    const other = at(i);
    if (other === undefined) return 1;
    if (entry !== other) return entry - other;
  }
  return at(way.length) === undefined ? 0 : -1;
}
