import { MTIME, PERMISSIONS } from '../castore/canonical.ts';
import { MAX_NAME_LENGTH } from '../castore/node.ts';
import { FILE_TYPE } from './file-system.ts';

/** Numbers of a user and a group. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Who owns everything, if nobody else is named. */
export const ROOT: Owner = { uid: 0, gid: 0 };

/** Values that `stat` and `statfs` give for every node alike. */
export const STAT = {
  /** Nothing counts its links: equal names are not links to each other, and a directory has no count of its own. */
  links: 1,
  /** Seconds since 1970: last access, modification and change. */
  time: MTIME,
  /** Bytes that are best read at once. */
  blockSize: 4096,
  /** Bytes of the longest name. */
  nameLength: MAX_NAME_LENGTH,
} as const;

const TYPE_SHIFT = 12;
const BLOCK = 512;

/** Modes: the type, and the permissions that Nix gives. */
export const MODE = {
  directory: (FILE_TYPE.directory << TYPE_SHIFT) | PERMISSIONS.directory,
  file: (FILE_TYPE.file << TYPE_SHIFT) | PERMISSIONS.file,
  executable: (FILE_TYPE.file << TYPE_SHIFT) | PERMISSIONS.executable,
  symlink: (FILE_TYPE.symlink << TYPE_SHIFT) | PERMISSIONS.symlink,
} as const;

/** Blocks of 512 bytes that a node takes. Directories and links take none of their own. */
export function blocksOf(mode: number, size: number): number {
  return mode >> TYPE_SHIFT === FILE_TYPE.file ? Math.ceil(size / BLOCK) : 0;
}
