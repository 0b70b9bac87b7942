import { statfsSync } from 'node:fs';
import type { Groups } from '../castore/bao/group-set.ts';
import { SINGLE_CHUNK_LIMIT } from '../castore/blob/service.ts';
import { Digest, EMPTY_DIGEST } from '../castore/digest.ts';
import type { Directory, DirectoryIndex } from '../castore/directory.ts';
import type { Node } from '../castore/node.ts';
import { MAX_NAME_LENGTH } from '../castore/node.ts';
import { isStorePathName, STORE_PATH_HASH_LENGTH, StorePath } from '../nix/store-path.ts';
import type { PathInfo } from '../store/path-info/path-info.ts';
import { BLOCK } from '../store/profile/profile.ts';
import { asBuffer } from '../util/bytes.ts';
import { log } from '../util/log.ts';
import type { FilePart } from '../util/system/file-splice.ts';
import { BlobReader } from './blob-reader.ts';
import { DirectoryCache } from './directory-cache.ts';
import type { Attributes, FileSystem, Listing, Need, Usage } from './file-system.ts';
import { ABSENT_FOREVER, ERRNO, MISSING, ROOT_ID } from './file-system.ts';
import type { InodeNumber } from './inode-number.ts';
import { fold } from './inode-number.ts';
import type { EntryNodes } from './listing.ts';
import { DirectoryListing, RootListing } from './listing.ts';
import type { DirectoryEntry, StoreNeed } from './need.ts';
import { needBlob, needDirectory, needIndex, needPathInfo, needPathInfos } from './need.ts';
import { describeEntry, describeNode } from './node-description.ts';
import { RECORD } from './node-record.ts';
import type { NodeTable } from './node-table.ts';
import { MAX_SIZE } from './node-table.ts';
import type { Reading, ReadLog } from './read-log.ts';
import { READING } from './read-log.ts';
import type { Source } from './source.ts';
import { MODE } from './stat.ts';

const MODES: Record<number, number> = {
  [RECORD.directory]: MODE.directory,
  [RECORD.file]: MODE.file,
  [RECORD.symlink]: MODE.symlink,
};
/**
 * Nix makes this directory in every store that it opens: so it is there, empty, though no listing shows it. In
 * the table of nodes it has a hash that no store path will have.
 */
const LINKS_NAME = '.links';
const LINKS_HASH = new Uint8Array(STORE_PATH_HASH_LENGTH).fill(0xff);
const NO_ENTRIES = new Uint8Array();
const XATTR_NAMES = { [RECORD.directory]: 'directory', [RECORD.file]: 'blob' } as Record<number, string>;

export type InodeBits = 32 | 64;

export interface StoreFileSystemOptions {
  /** Whether content that is not local can be fetched; else it is an error. */
  readonly remote: boolean;
  /** Directory whose file system `statfs` tells the size of. */
  readonly storeDir: string;
  /** Bits of inode numbers, 64 by default; with 32, for programs that know no larger ones, two nodes may have the same. */
  readonly inodeBits?: InodeBits | undefined;
  /** Told of each store path that is looked into, and of each file when it is first read. */
  readonly witness?: Witness;
  /** Takes note of the directories and parts of files that are made use of. */
  readonly readLog?: ReadLog | undefined;
}

/** Sees what is made use of. */
export interface Witness {
  entered(info: PathInfo): void;
  readFile(): void;
}

/** The store as a file system: store paths in the root, their trees below. */
export class StoreFileSystem implements FileSystem, EntryNodes {
  readonly #source: Source;
  readonly #nodes: NodeTable;
  readonly #options: StoreFileSystemOptions;
  readonly #blobs: BlobReader;
  readonly #directories = new DirectoryCache();
  #missing: StoreNeed | undefined;

  constructor(source: Source, nodes: NodeTable, options: StoreFileSystemOptions) {
    this.#source = source;
    this.#nodes = nodes;
    this.#options = options;
    this.#blobs = new BlobReader(source);
  }

  lookup(parent: number, bytes: Uint8Array, start: number, end: number, out: Attributes): number {
    // The kernel passes on names of up to 1024 bytes.
    if (end - start > MAX_NAME_LENGTH) return -ERRNO.ENAMETOOLONG;
    if (parent === ROOT_ID) return this.#lookupRoot(asBuffer(bytes).toString('latin1', start, end), out);
    const directory = this.#directory(parent);
    if (typeof directory === 'number') return directory;
    const index = directory.find(bytes, start, end);
    return index < 0 ? ABSENT_FOREVER : this.acquireEntry(parent, directory, index, out);
  }

  #lookupRoot(name: string, out: Attributes): number {
    if (name === LINKS_NAME) {
      return this.#acquireRoot(LINKS_HASH, { kind: 'directory', digest: EMPTY_DIGEST, size: 0n }, out);
    }
    if (!isStorePathName(name)) return ABSENT_FOREVER;
    const path = StorePath.parse(name);
    const info = this.#source.pathInfo(path.hash);
    if (!info) return this.#lacks(needPathInfo(path.hash), ERRNO.ENOENT);
    if (info.storePath.name !== path.name) return -ERRNO.ENOENT;
    if (info.node.kind !== 'directory') this.#options.witness?.entered(info);
    return this.acquireStorePath(info, out);
  }

  /** References the node of a store path and fills `out`; ENOENT when it has just been deleted. */
  acquireStorePath({ storePath: { hash }, node }: PathInfo, out: Attributes): number {
    const result = this.#acquireRoot(hash, node, out);
    if (result < 0 || this.#options.remote) return result;
    // From here on it is pinned. A collector may have come first.
    this.#source.refresh();
    if (this.#source.pathInfo(hash)) return result;
    this.#nodes.forget(out.id, 1);
    return -ERRNO.ENOENT;
  }

  #acquireRoot(hash: Uint8Array, node: Node, out: Attributes): number {
    const description = describeNode(node);
    if (description.size > MAX_SIZE) return -ERRNO.EOVERFLOW;
    const id = this.#nodes.acquireStorePath(hash, ROOT_ID, description);
    return id === 0 ? this.#full() : this.attributes(id, out);
  }

  /** References the node of a directory's entry and fills `out`. EOVERFLOW when it is too large to be shown. */
  acquireEntry(parent: number, directory: Directory, index: number, out: Attributes): number {
    const description = describeEntry(directory, index);
    if (description.size > MAX_SIZE) return -ERRNO.EOVERFLOW;
    const id = this.#nodes.acquire(parent, index, description);
    return id === 0 ? this.#full() : this.attributes(id, out);
  }

  #full(): number {
    log.error('the table of nodes is full: too many files are in use');
    return -ERRNO.ENFILE;
  }

  forget(id: number, count: number): void {
    this.#nodes.forget(id, count);
  }

  forgetAll(): void {
    this.#nodes.forgetAll();
  }

  attributes(id: number, out: Attributes): number {
    if (id !== ROOT_ID && !this.#nodes.has(id)) return -ERRNO.ENOENT;
    out.id = id;
    out.generation = id === ROOT_ID ? 0 : this.#nodes.generation(id);
    this.inode(id, out);
    if (id === ROOT_ID) {
      out.mode = MODE.directory;
      out.size = 0;
      return 0;
    }
    out.mode = this.#nodes.executable(id) ? MODE.executable : MODES[this.#nodes.kind(id)]!;
    out.size = this.#nodes.fileSize(id);
    return 0;
  }

  /** Writes a node's inode number. */
  inode(id: number, out: InodeNumber): void {
    if (id !== ROOT_ID) {
      this.#nodes.inode(id, out);
      this.shown(out);
    } else {
      out.inodeLow = ROOT_ID;
      out.inodeHigh = 0;
    }
  }

  shown(inode: InodeNumber): void {
    if (this.#options.inodeBits === 32) fold(inode);
  }

  readlink(id: number, out: Uint8Array, at: number): number {
    if (id === ROOT_ID || this.#nodes.kind(id) !== RECORD.symlink) return -ERRNO.EINVAL;
    const parent = this.#nodes.parent(id);
    if (parent === ROOT_ID) {
      const info = this.#source.pathInfo(this.#storePathHash(id));
      if (!info) return this.#lacks(needPathInfo(this.#storePathHash(id)), ERRNO.EIO);
      if (info.node.kind !== 'symlink') return -ERRNO.EIO;
      out.set(info.node.target, at);
      return info.node.target.length;
    }
    const directory = this.#directory(parent);
    if (typeof directory === 'number') return directory;
    const entry = this.#nodes.entry(id);
    return asBuffer(directory.bytes).copy(out, at, directory.valueStart(entry), directory.valueEnd(entry));
  }

  read(id: number, offset: number, length: number, out: Uint8Array, at: number): number {
    if (id === ROOT_ID || this.#nodes.kind(id) !== RECORD.file) return -ERRNO.EISDIR;
    const size = this.#nodes.fileSize(id);
    if (offset >= size) return 0;
    const wanted = Math.min(length, size - offset);
    const digest = this.#nodes.digest(id);
    const count = this.#blobs.read(digest, size, offset, wanted, out, at);
    if (count !== undefined) {
      this.#wasRead(id, size, offset, wanted);
      return count;
    }
    const copy = Uint8Array.from(digest);
    const need = needBlob(this.#storePathHash(id), copy, size, offset, wanted, this.#wayTo(id));
    return this.#lacks(need, ERRNO.EIO);
  }

  readFiles(id: number, offset: number, length: number): FilePart[] {
    if (id === ROOT_ID || this.#nodes.kind(id) !== RECORD.file) return [];
    const size = this.#nodes.fileSize(id);
    if (offset >= size) return [];
    const wanted = Math.min(length, size - offset);
    const parts = this.#blobs.inFiles(this.#nodes.digest(id), size, offset, wanted);
    if (parts.length > 0) this.#wasRead(id, size, offset, wanted);
    return parts;
  }

  #wasRead(id: number, size: number, offset: number, length: number): void {
    const isFirst = this.#nodes.markRead(id);
    if (isFirst) this.#options.witness?.readFile();
    if (size > SINGLE_CHUNK_LIMIT) this.#note(id, READING.part, offset, length);
    else if (isFirst) this.#note(id, READING.file);
  }

  #wayTo(id: number): DirectoryEntry[] {
    const way: DirectoryEntry[] = [];
    for (let at = id, parent = this.#nodes.parent(at); parent !== ROOT_ID; parent = this.#nodes.parent(at)) {
      way.push({ directory: Uint8Array.from(this.#nodes.digest(parent)), entry: this.#nodes.entry(at) });
      at = parent;
    }
    return way.reverse();
  }

  /** Takes note that there is another chunk list of a blob, of which all is right, or what `takeProof` tells of. */
  admit(blob: Uint8Array, isProvenInParts?: boolean): void {
    this.#blobs.admit(blob, isProvenInParts);
  }

  /** A part of a blob is right. */
  takeProof(blob: Uint8Array, groups: Groups): void {
    this.#blobs.proven(blob, groups);
  }

  /** A chunk list of which not all is proven has gone; one that is, is in the store. */
  settled(blob: Uint8Array): void {
    this.#blobs.settled(blob);
  }

  /** Reads nothing more of a blob by what was known of it. */
  revoke(blob: Uint8Array): void {
    this.#blobs.refuse(blob);
  }

  /** Takes a large directory that has been decoded. */
  takeIndex(digest: Uint8Array, index: DirectoryIndex): void {
    this.#directories.addIndexed(digest, index);
  }

  list(id: number, cookie: number, resumed: boolean): Listing | number {
    if (id === ROOT_ID) {
      // A far store is asked first; the same request comes again when it has answered.
      if (cookie === 0 && this.#options.remote && !resumed) {
        this.#missing = needPathInfos;
        return MISSING;
      }
      return new RootListing(this, this.#source, cookie, this.#options.inodeBits ?? 64);
    }
    const directory = this.#directory(id);
    return typeof directory === 'number'
      ? directory
      : new DirectoryListing(this, this.#nodes, id, directory, cookie);
  }

  listXattr(id: number): Uint8Array | number {
    const what = this.#xattrKind(id);
    if (!what) return new Uint8Array();
    return Buffer.from(`user.tvix.castore.${what}.digest\0user.snix.castore.${what}.digest\0`);
  }

  getXattr(id: number, name: string): Uint8Array | number {
    const what = this.#xattrKind(id);
    if (!what) return -ERRNO.ENODATA;
    const digest = () => Digest.of(Uint8Array.from(this.#nodes.digest(id)));
    if (name === `user.snix.castore.${what}.digest`) return Buffer.from(digest().toString());
    if (name === `user.tvix.castore.${what}.digest`) {
      return Buffer.from(digest().toString().replace('blake3-', 'b3:'));
    }
    return -ERRNO.ENODATA;
  }

  #xattrKind(id: number): string | undefined {
    return id === ROOT_ID ? undefined : XATTR_NAMES[this.#nodes.kind(id)];
  }

  usage(): Usage {
    const { blocks, bavail, bsize } = statfsSync(this.#options.storeDir);
    return { blocks, free: bavail, blockSize: bsize };
  }

  missing(): Need {
    return this.#missing!;
  }

  refresh(): void {
    this.#source.refresh();
  }

  #storePathHash(id: number): Uint8Array {
    return Uint8Array.from(this.#nodes.digest(this.#nodes.storePath(id)).subarray(0, STORE_PATH_HASH_LENGTH));
  }

  /** The parsed directory of a node, or an error. */
  #directory(id: number): Directory | number {
    if (this.#nodes.kind(id) !== RECORD.directory) return -ERRNO.ENOTDIR;
    const key = this.#nodes.digestKey(id);
    const cached = this.#directories.get(key);
    if (cached) return cached;
    const digest = Uint8Array.from(this.#nodes.digest(id));
    const index = () => this.#lacks(needIndex(this.#storePathHash(id), digest), ERRNO.EIO);
    if (this.#directories.isLarge(key)) return index();
    const isEmpty = EMPTY_DIGEST.bytes.every((byte, i) => byte === digest[i]);
    const bytes = isEmpty ? NO_ENTRIES : this.#source.directory(digest);
    if (!bytes) return this.#lacks(needDirectory(this.#storePathHash(id), digest), ERRNO.EIO);
    if (this.#nodes.parent(id) === ROOT_ID) this.#enter(id);
    else this.#note(id, READING.directory);
    return this.#directories.add(key, bytes) ?? index();
  }

  /** Notes that something in a tree was needed, and of a part of a file which one, in bytes. */
  #note(id: number, kind: Reading, offset = 0, length = 0): void {
    const { readLog } = this.#options;
    const parent = this.#nodes.parent(id);
    if (!readLog || parent === ROOT_ID) return;
    const start = Math.floor(offset / BLOCK);
    readLog.note({
      kind,
      storePath: this.#storePathHash(id),
      directory: this.#nodes.digest(parent),
      entry: this.#nodes.entry(id),
      start,
      count: Math.ceil((offset + length) / BLOCK) - start,
      child: this.#nodes.digest(id),
    });
  }

  #enter(id: number): void {
    const info = this.#options.witness && this.#source.pathInfo(this.#storePathHash(id));
    if (info) this.#options.witness?.entered(info);
  }

  /** Gives the answer to a request that needs something which is not local. */
  #lacks(need: StoreNeed, errno: number): number {
    // What is not there without a far store is not there; but content should be, so somebody has to look.
    if (!this.#options.remote && errno !== ERRNO.EIO) return -errno;
    this.#missing = need;
    return MISSING;
  }
}
