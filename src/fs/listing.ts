import type { Directory } from '../castore/directory.ts';
import { KIND } from '../castore/directory-codec.ts';
import { STORE_PATH_HASH_LENGTH } from '../nix/store-path.ts';
import type { PathInfo } from '../store/path-info/path-info.ts';
import { asBuffer } from '../util/bytes.ts';
import type { Attributes, Listing } from './file-system.ts';
import { FILE_TYPE, ROOT_ID } from './file-system.ts';
import type { InodeNumber } from './inode-number.ts';
import { childInode, storePathInode } from './inode-number.ts';
import type { NodeTable } from './node-table.ts';
import type { Source } from './source.ts';

/** Takes references to the nodes of entries. */
export interface EntryNodes {
  /** Writes a node's inode number as the kernel is to see it. */
  inode(id: number, out: InodeNumber): void;
  /** Makes an inode number that was found otherwise as the kernel is to see it. */
  shown(inode: InodeNumber): void;
  acquireEntry(parent: number, directory: Directory, index: number, out: Attributes): number;
  acquireStorePath(info: PathInfo, out: Attributes): number;
}

const DOTS = Buffer.from('..');
const TYPES: Record<number, number> = {
  [KIND.directory]: FILE_TYPE.directory,
  [KIND.file]: FILE_TYPE.file,
  [KIND.symlink]: FILE_TYPE.symlink,
};

/** Entries of a directory in the order of their names, after `.` and `..`. A cookie counts what came before. */
export class DirectoryListing implements Listing {
  bytes: Uint8Array = DOTS;
  nameStart = 0;
  nameEnd = 0;
  type: number = FILE_TYPE.directory;
  cookie: number;
  readonly #fs: EntryNodes;
  readonly #nodes: NodeTable;
  readonly #parent: number;
  readonly #directory: Directory;

  constructor(fs: EntryNodes, nodes: NodeTable, parent: number, directory: Directory, cookie: number) {
    this.#fs = fs;
    this.#nodes = nodes;
    this.#parent = parent;
    this.#directory = directory;
    this.cookie = cookie;
  }

  advance(): boolean {
    const index = this.cookie - 2;
    if (index >= this.#directory.length) return false;
    this.cookie++;
    if (index < 0) {
      this.nameEnd = this.cookie;
      return true;
    }
    this.bytes = this.#directory.bytes;
    this.nameStart = this.#directory.nameStart(index);
    this.nameEnd = this.#directory.nameEnd(index);
    this.type = TYPES[this.#directory.kind(index)]!;
    return true;
  }

  get #index(): number {
    return this.cookie - 3;
  }

  inode(out: InodeNumber): void {
    if (this.#index < 0) {
      const isDotDot = this.cookie === 2;
      this.#fs.inode(isDotDot ? this.#nodes.parent(this.#parent) : this.#parent, out);
      return;
    }
    this.#nodes.inode(this.#parent, out);
    childInode(out, this.#index);
    this.#fs.shown(out);
  }

  acquire(out: Attributes): number {
    return this.#fs.acquireEntry(this.#parent, this.#directory, this.#index, out);
  }
}

/** The first bits of a store path's hash that are read: as many as a double holds exactly, less room for the dots. */
const PREFIX_BITS = 52;
/** Those that make a cookie where it has to fit into 31 bits. */
const NARROW_BITS = 30;
const FIRST_COOKIE = 3;
/** Cookies before the one to begin behind at which to look for paths that have taken the next ones, by sharing bits. */
const LOOK_BACK = 100;

/**
 * The store paths, in the order of their hashes. A cookie is the beginning of the hash, so it stays right
 * while paths come and go, and under every thread. Of paths with the same beginning, which few bits make possible, the
 * others have the cookies that follow.
 */
export class RootListing implements Listing {
  bytes: Uint8Array = DOTS;
  nameStart = 0;
  nameEnd = 0;
  type: number = FILE_TYPE.directory;
  cookie: number;
  readonly #fs: EntryNodes;
  readonly #source: Source;
  /** What a prefix is divided by. */
  readonly #unit: number;
  readonly #behind: number;
  #infos: Iterator<PathInfo> | undefined;
  /** The cookie of the last path that was looked at. */
  #last = 0;
  #current: PathInfo | undefined;

  /** `bits`: of inode numbers, and so of what programs can know of cookies. */
  constructor(fs: EntryNodes, source: Source, cookie: number, bits: 32 | 64) {
    this.#fs = fs;
    this.#source = source;
    this.#unit = bits === 32 ? 2 ** (PREFIX_BITS - NARROW_BITS) : 1;
    this.#behind = cookie;
    this.cookie = cookie;
  }

  advance(): boolean {
    if (this.cookie < 2) {
      this.cookie++;
      this.nameEnd = this.cookie;
      return true;
    }
    const info = this.#next();
    if (!info) return false;
    this.#current = info;
    const { storePath, node } = info;
    this.cookie = this.#last;
    this.bytes = Buffer.from(storePath.toString(), 'latin1');
    this.nameStart = 0;
    this.nameEnd = this.bytes.length;
    this.type = FILE_TYPE[node.kind];
    return true;
  }

  /** The next path behind the cookie that the listing began with. */
  #next(): PathInfo | undefined {
    const first = Math.max(0, this.#behind - FIRST_COOKIE - LOOK_BACK);
    this.#infos ??= this.#source.pathInfosFrom(hashFrom(first * this.#unit))[Symbol.iterator]();
    for (;;) {
      const next = this.#infos.next();
      if (next.done) return undefined;
      const own = FIRST_COOKIE + Math.floor(prefixOf(next.value.storePath.hash) / this.#unit);
      this.#last = Math.max(own, this.#last + 1);
      if (this.#last > this.#behind) return next.value;
    }
  }

  inode(out: InodeNumber): void {
    if (!this.#current) {
      this.#fs.inode(ROOT_ID, out);
      return;
    }
    const words = asBuffer(this.#current.storePath.hash);
    storePathInode(words.readInt32LE(0), words.readInt32LE(4), out);
    this.#fs.shown(out);
  }

  acquire(out: Attributes): number {
    return this.#fs.acquireStorePath(this.#current!, out);
  }
}

function prefixOf(hash: Uint8Array): number {
  let prefix = 0;
  for (let i = 0; i < 6; i++) prefix = prefix * 256 + hash[i]!;
  return prefix * 16 + (hash[6]! >> 4);
}

/** The least hash that begins with this prefix, or a greater one. */
function hashFrom(prefix: number): Uint8Array {
  const hash = new Uint8Array(STORE_PATH_HASH_LENGTH);
  // Behind the last of all prefixes there is nothing: no hash is as great as this.
  if (prefix >= 2 ** PREFIX_BITS) return hash.fill(0xff);
  hash[6] = (prefix % 16) << 4;
  let rest = Math.floor(prefix / 16);
  for (let i = 5; i >= 0; i--) {
    hash[i] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  return hash;
}
