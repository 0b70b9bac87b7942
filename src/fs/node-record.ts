/** Kinds of records. A `storePath` record stands for the name in the root under which a tree was reached. */
export const RECORD = { free: 0, directory: 1, file: 2, symlink: 3, storePath: 4 } as const;

/**
 * A record takes 16 words of 32 bits:
 *
 *   0 kind, 8 bits | executable, read | size above 2^32, 16 bits      6 next in its bucket, or in the free list
 *   1 references that the kernel holds                                7 size, low 32 bits
 *   2 references from other records                                   8-15 digest, or a store path's hash
 *   3 parent   4 entry in the parent   5 store path record
 *
 * Of a file, parent and entry tell where it was last come upon: a hint, the parent may be another by now.
 *
 * A store path record has its pin's number in word 4. Word 3 names the first of those that stay as long as it does,
 * or the next of them: names under which a file was found that had been found under this one before.
 */
export const WORDS = 16;
export const EXECUTABLE = 0x100;
export const READ = 0x200;
export const LOOKUPS = 1;
export const REFS = 2;
export const PARENT = 3;
export const ENTRY = 4;
export const STORE_PATH = 5;
export const NEXT = 6;
export const SIZE_LOW = 7;
export const DIGEST = 8;

/** Words of the table's own state, before the buckets. */
export const LOCK = 0;
export const COUNT = 1;
export const FREE = 2;
export const TOP = 3;
export const BUCKETS = 4;
export const FREE_NAMES = 5;
export const PINS = 6;
export const STATE_WORDS = 16;
export const FIRST_BUCKETS = 1024;
