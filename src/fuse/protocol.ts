/**
 * The kernel's FUSE protocol, version 7.45 (`include/uapi/linux/fuse.h`): what a read-only file system
 * needs of it. All numbers are little-endian; lengths are in bytes.
 */

export const MAJOR = 7;
export const MINOR = 45;

/** Header of a request: length u32, opcode u32, unique u64, node id u64, uid, gid, pid, extension length u16 (in words of 8). */
export const IN_HEADER_LENGTH = 40;
/** Header of a reply: length u32, error i32 (0 or negated errno), unique u64. */
export const OUT_HEADER_LENGTH = 16;

/** Bits of `flags` in INIT. */
export const INIT = {
  ASYNC_READ: 1 << 0,
  BIG_WRITES: 1 << 5,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  NO_OPEN_SUPPORT: 1 << 17,
  PARALLEL_DIROPS: 1 << 18,
  ABORT_ERROR: 1 << 21,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  NO_OPENDIR_SUPPORT: 1 << 24,
  EXPLICIT_INVAL_DATA: 1 << 25,
  INIT_EXT: 1 << 30,
} as const;

/** Bits of `flags2` in INIT, the upper half of the flags. */
export const INIT2 = { NO_EXPORT_SUPPORT: 1 << 6 } as const;

/** Bits of `open_flags`: keep what is cached of a file; cache a directory's listing. */
export const FOPEN = { KEEP_CACHE: 1 << 1, CACHE_DIR: 1 << 3 } as const;

/** Codes of the notifications that a file system sends. */
export const NOTIFY = { INVAL_INODE: 2, INVAL_ENTRY: 3 } as const;

export const ATTR_LENGTH = 88;
export const ENTRY_LENGTH = 40 + ATTR_LENGTH;
export const ATTR_OUT_LENGTH = 16 + ATTR_LENGTH;
export const STATX_OUT_LENGTH = 32 + 256;
export const STATFS_LENGTH = 80;
export const INIT_OUT_LENGTH = 64;
export const OPEN_OUT_LENGTH = 16;
export const DIRENT_LENGTH = 24;

/**
 * The most pages, and bytes, that one READ may ask for: what a pipe of 1 MiB holds beside a header, and beside pages of
 * which only a part is wanted.
 */
export const MAX_PAGES = 240;
export const MAX_READ = MAX_PAGES * 4096;
/** Nothing is ever written; the kernel wants a number. */
export const MAX_WRITE = 128 * 1024;
/** A request must fit: the kernel refuses to hand out one to a shorter buffer. */
export const REQUEST_BUFFER_LENGTH = MAX_WRITE + 4096;
export const REPLY_BUFFER_LENGTH = OUT_HEADER_LENGTH + MAX_READ;

/**
 * Requests that the kernel may have under way in the background, and where it stops reading ahead. Reads are
 * such requests: were there few, those that wait for a far store would hold up those whose data is local.
 */
export const MAX_BACKGROUND = 0xffff;
export const CONGESTION_THRESHOLD = 48;

/** Bits of a `statx` mask that are always known: the basic ones, and the time of birth. */
export const STATX_KNOWN = 0xfff;

/** Seconds that stand for ever. */
export const FOREVER = 0x7fff_ffff;
