/** Kinds of records. A `storePath` record stands for the name in the root under which a tree was reached. */
export const RECORD = { free: 0, directory: 1, file: 2, symlink: 3, storePath: 4 } as const;

/**
 * A record takes 17 words of 32 bits:
 *
 *   0 kind, 8 bits | executable, read | size above 2^32, 16 bits      6 next in its bucket, or in the free list
 *   1 references that the kernel holds                                7 size, low 32 bits
 *   2 references from other records                                   8-15 digest, or a store path's hash
 *   3 parent   4 entry in the parent   5 store path record           16 how often the record has been used
 *
 * The entry of a node in the root is its store path record. A store path record has its pin's number in word 4.
 */
export const WORDS = 17;
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
export const USES = 16;

/** Words of the table's own state, before the buckets. */
export const LOCK = 0;
export const COUNT = 1;
export const FREE = 2;
export const TOP = 3;
export const BUCKETS = 4;
export const FREE_NAMES = 5;
export const PINS = 6;
export const FIRST_GENERATION = 7;
export const STATE_WORDS = 16;
export const FIRST_BUCKETS = 1024;
