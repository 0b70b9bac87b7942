import { asBuffer } from '../util/bytes.ts';
import { ROOT_ID as ROOT } from './file-system.ts';
import type { InodeNumber } from './inode-number.ts';
import { childInode, fileInode, storePathInode } from './inode-number.ts';

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
 */
const WORDS = 16;
const EXECUTABLE = 0x100;
const READ = 0x200;
const LOOKUPS = 1;
const REFS = 2;
const PARENT = 3;
const ENTRY = 4;
const STORE_PATH = 5;
const NEXT = 6;
const SIZE_LOW = 7;
const DIGEST = 8;

/** Words of the table's own state, before the buckets. */
const LOCK = 0;
const COUNT = 1;
const FREE = 2;
const TOP = 3;
const BUCKETS = 4;
const STATE_WORDS = 16;
const FIRST_BUCKETS = 1024;

/** Files from this size on cannot be shown: the record has 48 bits for it. */
export const MAX_SIZE = 2 ** 48;

/** What an `acquire` needs to know of a node. */
export interface NodeDescription {
  readonly kind: 1 | 2 | 3;
  readonly executable: boolean;
  readonly size: number;
  /** The digest lies in `bytes[digestStart, digestStart + 32)`; not for links. */
  readonly bytes: Uint8Array;
  readonly digestStart: number;
}

/**
 * The nodes that the kernel knows, as records in shared memory of a fixed size (which costs what has been
 * touched of it), so that several threads serve the same tree. A node's id is the index of its record.
 *
 * A file's id stands for its content and executable bit: the kernel then caches equal contents once. A
 * directory's or link's id stands for its place, parent and entry. Both are found again through a hash
 * index that grows by linear hashing. A record lives while the kernel or another record refers to it.
 *
 * Allocating, freeing and counting happen under a short spin lock; a record the caller holds a reference
 * to is read without one.
 */
export class NodeTable {
  readonly #words: Int32Array;
  readonly #bytes: Buffer;
  readonly #capacity: number;
  /** Word at which records begin. */
  readonly #base: number;

  /** Shared memory for a table of up to `capacity` nodes. */
  static allocate(capacity: number): SharedArrayBuffer {
    const buffer = new SharedArrayBuffer(4 * (STATE_WORDS + capacity + capacity * WORDS));
    const state = new Int32Array(buffer, 0, STATE_WORDS);
    state[BUCKETS] = Math.min(FIRST_BUCKETS, capacity);
    // Record 0 is none, record 1 the root.
    state[TOP] = 2;
    return buffer;
  }

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
    this.#bytes = Buffer.from(buffer as unknown as ArrayBuffer);
    this.#capacity = (this.#words.length - STATE_WORDS) / (WORDS + 1);
    this.#base = STATE_WORDS + this.#capacity;
  }

  /** Number of records in use. */
  get size(): number {
    return Atomics.load(this.#words, COUNT);
  }

  #at(id: number): number {
    return this.#base + id * WORDS;
  }

  /** Whether an id that came from the kernel can be one of ours. */
  has(id: number): boolean {
    if (id < 2 || id >= this.#words[TOP]!) return false;
    const kind = this.kind(id);
    return kind !== RECORD.free && kind !== RECORD.storePath;
  }

  kind(id: number): number {
    return this.#words[this.#at(id)]! & 0xff;
  }

  executable(id: number): boolean {
    return (this.#words[this.#at(id)]! & EXECUTABLE) !== 0;
  }

  entry(id: number): number {
    return this.#words[this.#at(id) + ENTRY]!;
  }

  parent(id: number): number {
    return this.#words[this.#at(id) + PARENT]!;
  }

  storePath(id: number): number {
    return this.#words[this.#at(id) + STORE_PATH]!;
  }

  fileSize(id: number): number {
    const at = this.#at(id);
    return (this.#words[at]! >>> 16) * 0x1_0000_0000 + (this.#words[at + SIZE_LOW]! >>> 0);
  }

  /** The digest of a node, or the hash of a store path record, as a view of the record. */
  digest(id: number): Buffer {
    const start = (this.#at(id) + DIGEST) * 4;
    return this.#bytes.subarray(start, start + 32);
  }

  /** The digest as a key for maps, one character a byte. */
  digestKey(id: number): string {
    const start = (this.#at(id) + DIGEST) * 4;
    return this.#bytes.toString('latin1', start, start + 32);
  }

  /** Counts a reference to the node that an entry of a directory names; 0 when the table is full. */
  acquire(parent: number, entry: number, node: NodeDescription): number {
    return this.#locked(() => this.#acquire(parent, entry, this.storePath(parent), node));
  }

  /** The same for an entry of the root: a store path, by its hash. */
  acquireStorePath(hash: Uint8Array, root: number, node: NodeDescription): number {
    return this.#locked(() => {
      let name = this.#findStorePath(hash);
      if (name === 0) {
        name = this.#allocate();
        if (name === 0) return 0;
        this.#words[this.#at(name)] = RECORD.storePath;
        const start = (this.#at(name) + DIGEST) * 4;
        this.#bytes.fill(0, start, start + 32).set(hash, start);
        this.#link(name);
      }
      const id = this.#acquire(root, name, name, node);
      // Content that was known already keeps the name under which it was found first, not this one.
      this.#release(name);
      return id;
    });
  }

  /** Writes the inode number of a node, which the same node has in every mount, whatever its id. */
  inode(id: number, out: InodeNumber): void {
    const at = this.#at(id);
    if (this.kind(id) === RECORD.file) {
      fileInode(this.#words[at + DIGEST]!, this.#words[at + DIGEST + 1]!, this.executable(id), out);
      return;
    }
    const parent = this.#words[at + PARENT]!;
    if (parent === ROOT) {
      const name = this.#at(this.#words[at + STORE_PATH]!) + DIGEST;
      storePathInode(this.#words[name]!, this.#words[name + 1]!, out);
      return;
    }
    this.inode(parent, out);
    childInode(out, this.#words[at + ENTRY]!);
  }

  /** Notes that a file has been read; true the first time. */
  markRead(id: number): boolean {
    const at = this.#at(id);
    if ((this.#words[at]! & READ) !== 0) return false;
    this.#words[at]! |= READ;
    return true;
  }

  /** The ids of the files with this content: plain, executable, or none. */
  filesOf(digest: Uint8Array): number[] {
    return this.#locked(() =>
      [false, true].map((executable) => this.#findFile(digest, 0, executable)),
    ).filter(Boolean);
  }

  /** Gives back references of the kernel. Too many at once do no harm. */
  forget(id: number, count: number): void {
    if (!this.has(id)) return;
    this.#locked(() => {
      const at = this.#at(id);
      this.#words[at + LOOKUPS] = Math.max(0, this.#words[at + LOOKUPS]! - count);
      this.#release(id);
    });
  }

  /** Gives back all references of the kernel. */
  forgetAll(): void {
    this.#locked(() => {
      for (let id = 2; id < this.#words[TOP]!; id++) {
        if (!this.has(id)) continue;
        this.#words[this.#at(id) + LOOKUPS] = 0;
        this.#release(id);
      }
    });
  }

  #acquire(parent: number, entry: number, storePath: number, node: NodeDescription): number {
    let id =
      node.kind === RECORD.file
        ? this.#findFile(node.bytes, node.digestStart, node.executable)
        : this.#findPlace(parent, entry);
    if (id === 0) {
      id = this.#allocate();
      if (id === 0) return 0;
      this.#fill(id, parent, entry, storePath, node);
    }
    const at = this.#at(id);
    this.#words[at + PARENT] = parent;
    this.#words[at + ENTRY] = entry;
    this.#words[at + LOOKUPS]!++;
    return id;
  }

  #fill(id: number, parent: number, entry: number, storePath: number, node: NodeDescription): void {
    const words = this.#words;
    const at = this.#at(id);
    const isFile = node.kind === RECORD.file;
    const sizeHigh = Math.floor(node.size / 0x1_0000_0000);
    words[at] = node.kind | (node.executable ? EXECUTABLE : 0) | (sizeHigh << 16);
    words[at + SIZE_LOW] = node.size | 0;
    words[at + PARENT] = parent;
    words[at + ENTRY] = entry;
    words[at + STORE_PATH] = storePath;
    const start = (at + DIGEST) * 4;
    if (node.kind === RECORD.symlink) this.#bytes.fill(0, start, start + 32);
    else asBuffer(node.bytes).copy(this.#bytes, start, node.digestStart, node.digestStart + 32);
    // The parent stays while a child is known, and the store path while anything in it is.
    if (!isFile) words[this.#at(parent) + REFS]!++;
    words[this.#at(storePath) + REFS]!++;
    this.#link(id);
  }

  /** Frees a record that nothing refers to any more, and then those that it referred to. */
  #release(id: number): void {
    const words = this.#words;
    const at = this.#at(id);
    if (id === 1 || words[at + LOOKUPS] !== 0 || words[at + REFS] !== 0) return;
    const kind = words[at]! & 0xff;
    if (kind === RECORD.free) return;
    const parent = kind === RECORD.file ? 0 : words[at + PARENT]!;
    const storePath = words[at + STORE_PATH]!;
    this.#unlink(id);
    words.fill(0, at, at + WORDS);
    words[at + NEXT] = words[FREE]!;
    words[FREE] = id;
    words[COUNT]!--;
    for (const other of kind === RECORD.storePath ? [] : [parent, storePath]) {
      if (other === 0) continue;
      words[this.#at(other) + REFS]!--;
      this.#release(other);
    }
  }

  #allocate(): number {
    const words = this.#words;
    let id = words[FREE]!;
    if (id !== 0) words[FREE] = words[this.#at(id) + NEXT]!;
    else {
      id = words[TOP]!;
      if (id >= this.#capacity) return 0;
      words[TOP] = id + 1;
    }
    words.fill(0, this.#at(id), this.#at(id) + WORDS);
    words[COUNT]!++;
    if (words[COUNT]! > words[BUCKETS]! && words[BUCKETS]! < this.#capacity) this.#grow();
    return id;
  }

  // The index. A record's bucket follows from what identifies it.

  #hash(id: number): number {
    const at = this.#at(id);
    const kind = this.#words[at]! & 0xff;
    if (kind === RECORD.directory || kind === RECORD.symlink) {
      return placeHash(this.#words[at + PARENT]!, this.#words[at + ENTRY]!);
    }
    return contentHash(this.#words[at + DIGEST]!, this.executable(id));
  }

  #bucket(hash: number): number {
    const buckets = this.#words[BUCKETS]!;
    const mask = (1 << (31 - Math.clz32(buckets))) - 1;
    // Buckets below the split point have been divided by one more bit already.
    const wide = hash & (mask * 2 + 1);
    return STATE_WORDS + (wide < buckets ? wide : hash & mask);
  }

  #link(id: number): void {
    const bucket = this.#bucket(this.#hash(id));
    this.#words[this.#at(id) + NEXT] = this.#words[bucket]!;
    this.#words[bucket] = id;
  }

  #unlink(id: number): void {
    const words = this.#words;
    let slot = this.#bucket(this.#hash(id));
    while (words[slot] !== id) {
      if (words[slot] === 0) return;
      slot = this.#at(words[slot]!) + NEXT;
    }
    words[slot] = words[this.#at(id) + NEXT]!;
  }

  /** Adds one bucket and moves to it what belongs there from the bucket it divides. */
  #grow(): void {
    const words = this.#words;
    const added = words[BUCKETS]!;
    const divided = STATE_WORDS + (added - (1 << (31 - Math.clz32(added))));
    words[BUCKETS] = added + 1;
    let id = words[divided]!;
    words[divided] = 0;
    while (id !== 0) {
      const next = words[this.#at(id) + NEXT]!;
      this.#link(id);
      id = next;
    }
  }

  #findPlace(parent: number, entry: number): number {
    const words = this.#words;
    let id = words[this.#bucket(placeHash(parent, entry))]!;
    for (; id !== 0; id = words[this.#at(id) + NEXT]!) {
      const at = this.#at(id);
      const kind = words[at]! & 0xff;
      if (kind !== RECORD.directory && kind !== RECORD.symlink) continue;
      if (words[at + PARENT] === parent && words[at + ENTRY] === entry) return id;
    }
    return 0;
  }

  #findFile(bytes: Uint8Array, start: number, executable: boolean): number {
    const words = this.#words;
    const source = asBuffer(bytes);
    let id = words[this.#bucket(contentHash(source.readInt32LE(start), executable))]!;
    for (; id !== 0; id = words[this.#at(id) + NEXT]!) {
      const at = this.#at(id);
      if ((words[at]! & (0xff | EXECUTABLE)) !== (RECORD.file | (executable ? EXECUTABLE : 0))) continue;
      const digest = (at + DIGEST) * 4;
      if (source.compare(this.#bytes, digest, digest + 32, start, start + 32) === 0) return id;
    }
    return 0;
  }

  #findStorePath(hash: Uint8Array): number {
    const words = this.#words;
    const source = asBuffer(hash);
    let id = words[this.#bucket(contentHash(source.readInt32LE(0), false))]!;
    for (; id !== 0; id = words[this.#at(id) + NEXT]!) {
      const at = this.#at(id);
      if ((words[at]! & 0xff) !== RECORD.storePath) continue;
      const start = (at + DIGEST) * 4;
      if (source.compare(this.#bytes, start, start + source.length) === 0) return id;
    }
    return 0;
  }

  #locked<T>(work: () => T): T {
    while (Atomics.compareExchange(this.#words, LOCK, 0, 1) !== 0);
    try {
      return work();
    } finally {
      Atomics.store(this.#words, LOCK, 0);
    }
  }
}

function placeHash(parent: number, entry: number): number {
  return mix(Math.imul(parent, 0x9e3779b1) ^ Math.imul(entry, 0x85ebca77));
}

function contentHash(word: number, executable: boolean): number {
  return executable ? mix(word ^ 0x5bd1e995) : mix(word);
}

function mix(value: number): number {
  let hash = value;
  hash = Math.imul(hash ^ (hash >>> 16), 0x7feb352d);
  hash = Math.imul(hash ^ (hash >>> 15), 0x846ca68b);
  return (hash ^ (hash >>> 16)) >>> 0;
}
