import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

/**
 * The pages of an LMDB file, version 2 of its format, as far as it takes to tell whether all that are in use lie within
 * the file: LMDB maps it and reads without looking, and what lies behind the end kills the process (SIGBUS).
 *
 *   page   number u64 | transaction u64 | pad u16 | flags u16 | lower u16, upper u16 (or pages u32) | offsets u16 …
 *   meta   page header | magic u32 | version u32 | address u64 | map size u64 | free DB 48 | main DB 48 | last page u64 |
 *          transaction u64; the first two pages, of which the one with the later transaction counts
 *   DB     page size u32 (in the free DB) | flags u16 | depth u16 | counts 4 × u64 | root u64
 *   node   low u16 | high u16 | flags u16 | key length u16 | key | value
 */
const MAGIC = 0xbeefc0de;
const VERSION = 2;
const HEADER = 24;
const NODE = 8;
/** In a meta page: the roots of the free DB and the main one, and what follows them. */
const ROOTS = [HEADER + 64, HEADER + 112];
const LAST_PAGE = HEADER + 120;
const TRANSACTION = HEADER + 128;
const META_LENGTH = HEADER + 136;
const MOST_LOOKS = 5;
const [BRANCH, LEAF] = [1, 2];
const [BIG_VALUE, SUBDATABASE] = [1, 2];
const NO_PAGE = 2n ** 64n - 1n;

/** Whether a file may be opened by LMDB, or made: it would crash on something else. */
export function isDatabase(path: string): boolean {
  return inspect(
    path,
    ({ length, first }) => length === 0 || (length >= HEADER + 4 && first.readUInt32LE(HEADER) === MAGIC),
  );
}

/**
 * How many bytes a database should have at least, if it lacks pages that are in use. Quick unless the file ends before the
 * last page that was ever taken: then all of it is read.
 */
export function bytesLacking(path: string): number | undefined {
  return inspect(path, ({ fd, length, first }) => {
    if (length < HEADER + 4 || first.readUInt32LE(HEADER + 4) !== VERSION) return undefined;
    const pageSize = first.readUInt32LE(HEADER + 24);
    if (length < 2 * pageSize) return 2 * pageSize;
    // While others commit, pages are used again under our eyes: only a look at one state counts.
    for (let look = 0; look < MOST_LOOKS; look++) {
      const meta = newestMeta(fd, pageSize);
      const last = Number(meta.readBigUInt64LE(LAST_PAGE));
      const pages = Math.floor(fstatSync(fd).size / pageSize);
      if (last < pages) return undefined;
      const walk = new PageWalk(fd, pageSize, pages);
      if (ROOTS.every((root) => walk.has(meta.readBigUInt64LE(root)))) return undefined;
      if (newestMeta(fd, pageSize).equals(meta)) return (last + 1) * pageSize;
    }
    return undefined;
  });
}

function newestMeta(fd: number, pageSize: number): Buffer {
  const [one, other] = [0, 1].map((page) => readAt(fd, page * pageSize, META_LENGTH)) as [Buffer, Buffer];
  return one.readBigUInt64LE(TRANSACTION) > other.readBigUInt64LE(TRANSACTION) ? one : other;
}

/** Follows the trees of a database. */
class PageWalk {
  readonly #fd: number;
  readonly #pageSize: number;
  readonly #pages: number;
  /** Pages that have been looked at: a damaged tree may have circles. */
  readonly #seen = new Set<number>();

  constructor(fd: number, pageSize: number, pages: number) {
    this.#fd = fd;
    this.#pageSize = pageSize;
    this.#pages = pages;
  }

  /** Whether all that is reached from a page lies within the file. */
  has(root: bigint): boolean {
    const queue = root === NO_PAGE ? [] : [Number(root)];
    for (let page = queue.pop(); page !== undefined; page = queue.pop()) {
      if (page >= this.#pages) return false;
      if (this.#seen.has(page)) continue;
      this.#seen.add(page);
      for (const next of this.#after(readAt(this.#fd, page * this.#pageSize, this.#pageSize)))
        queue.push(next);
    }
    return true;
  }

  /** The pages that a page refers to; of a long value the last one. */
  *#after(page: Buffer): Generator<number> {
    const flags = page.readUInt16LE(18);
    if (!(flags & (BRANCH | LEAF))) return;
    const end = Math.min(page.readUInt16LE(20), page.length);
    for (let at = HEADER; at + 2 <= end; at += 2) {
      const node = page.readUInt16LE(at);
      if (node + NODE > page.length) continue;
      const low = page.readUInt32LE(node);
      const nodeFlags = page.readUInt16LE(node + 4);
      if (flags & BRANCH) {
        yield low + nodeFlags * 2 ** 32;
        continue;
      }
      const value = node + NODE + page.readUInt16LE(node + 6);
      if (nodeFlags & BIG_VALUE && value + 8 <= page.length)
        yield Number(page.readBigUInt64LE(value)) + Math.floor((HEADER - 1 + low) / this.#pageSize);
      else if (nodeFlags & SUBDATABASE && value + 48 <= page.length) {
        const root = page.readBigUInt64LE(value + 40);
        if (root !== NO_PAGE) yield Number(root);
      }
    }
  }
}

function inspect<T>(path: string, look: (file: { fd: number; length: number; first: Buffer }) => T): T {
  const fd = openSync(path, 'r');
  try {
    return look({ fd, length: fstatSync(fd).size, first: readAt(fd, 0, HEADER + 28) });
  } finally {
    closeSync(fd);
  }
}

/** What stands at a place of a file; behind its end there are zeros. */
function readAt(fd: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  readSync(fd, bytes, 0, length, position);
  return bytes;
}
