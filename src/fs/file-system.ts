/**
 * The interface between a transport and a file system. All of it is synchronous and allocates little: it is called
 * for every request of the kernel. Results are numbers: 0 or a length when it worked, a negated errno, or
 * `MISSING`.
 */

import type { FilePart } from '../util/system/file-splice.ts';
import type { InodeNumber } from './inode-number.ts';

/** The root's node id, as the kernel has it. */
export const ROOT_ID = 1;

/** Error numbers of Linux. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EROFS: 30,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENODATA: 61,
  EPROTO: 71,
  EOVERFLOW: 75,
} as const;

/** Found nothing, and never will: the absence itself may be kept. */
export const ABSENT_FOREVER = 1;

/** The content is not local; `missing()` says which. Run the same request again when it is there. */
export const MISSING = -0x10000;

/** Content to be fetched. Requests with the same key wait for the same thing. */
export interface Need {
  readonly key: string;
}

/** File types as in the mode, shifted to what a directory entry holds (`S_IFMT >> 12`). */
export const FILE_TYPE = { directory: 4, file: 8, symlink: 10 } as const;

/** Attributes that differ from node to node; `STAT` holds the others. */
export class Attributes implements InodeNumber {
  id = 0;
  /** Tells this use of the id from others, in this mount and in those before it. */
  generation = 0;
  inodeLow = 0;
  inodeHigh = 0;
  mode = 0;
  size = 0;
}

/** Size of the store as `statfs` reports it. */
export interface Usage {
  readonly blocks: number;
  readonly free: number;
  readonly blockSize: number;
}

/** Steps through a directory. */
export interface Listing {
  /** Moves to the next entry; false at the end. */
  advance(): boolean;
  /** The current name lies in `bytes[nameStart, nameEnd)`. */
  readonly bytes: Uint8Array;
  readonly nameStart: number;
  readonly nameEnd: number;
  readonly type: number;
  /** Where a listing that is to begin behind this entry starts. */
  readonly cookie: number;
  /** Writes the entry's inode number. */
  inode(out: InodeNumber): void;
  /** Takes a reference to the entry's node, as `lookup` does. */
  acquire(out: Attributes): number;
}

export interface FileSystem {
  /**
   * Finds the child named `bytes[start, end)`, fills `out` and counts one reference to the node. -ENOENT when
   * it is not there now, `ABSENT_FOREVER` when it can never be, -EOVERFLOW when its size cannot be shown.
   */
  lookup(parent: number, bytes: Uint8Array, start: number, end: number, out: Attributes): number;
  /** Gives back `count` references. */
  forget(id: number, count: number): void;
  /** Gives back all references: the kernel that held them is gone. */
  forgetAll(): void;
  attributes(id: number, out: Attributes): number;
  /** Writes the target at `out[at]`; gives its length. */
  readlink(id: number, out: Uint8Array, at: number): number;
  /** Writes contents at `out[at]`; gives their length, less than `length` only at the end of the file. */
  read(id: number, offset: number, length: number, out: Uint8Array, at: number): number;
  /** The parts of open files in which contents lie as they are, until the next call; none when not all do. */
  readFiles(id: number, offset: number, length: number): FilePart[];
  /**
   * Begins a listing behind `cookie` (0: at the start); a negative number is an error. `resumed` tells that
   * what the same call lacked has been fetched.
   */
  list(id: number, cookie: number, resumed: boolean): Listing | number;
  /** Names of the extended attributes, each ending in NUL. */
  listXattr(id: number): Uint8Array | number;
  getXattr(id: number, name: string): Uint8Array | number;
  usage(): Usage;
  /** The need of the last call that gave `MISSING`. */
  missing(): Need;
  /** Lets other threads' writes be seen, and frees what reading holds. Due before every sleep. */
  refresh(): void;
}
