import { randomInt } from 'node:crypto';
import { threadId } from 'node:worker_threads';
import { asBuffer } from '../util/bytes.ts';
import { ROOT_ID as ROOT } from './file-system.ts';
import type { InodeNumber } from './inode-number.ts';
import { childInode, storePathInode } from './inode-number.ts';
import { NodeIndex } from './node-index.ts';
import {
  BUCKETS,
  COUNT,
  DIGEST,
  ENTRY,
  EXECUTABLE,
  FIRST_BUCKETS,
  FIRST_GENERATION,
  FREE,
  FREE_NAMES,
  LOCK,
  LOOKUPS,
  NEXT,
  PARENT,
  PINS,
  READ,
  RECORD,
  REFS,
  SIZE_LOW,
  STATE_WORDS,
  STORE_PATH,
  TOP,
  USES,
  WORDS,
} from './node-record.ts';

/** The largest size of a node, in bytes or elements: the record has 48 bits for it. */
export const MAX_SIZE = 2 ** 48 - 1;
/** References of a node that has so many that they are no longer counted: it stays until all are given back. */
const UNCOUNTED = 2 ** 31 - 1;

/** Notes which store paths the kernel knows, each in a slot of its own, numbered from 0. */
export interface Pins {
  pin(slot: number, hash: Uint8Array): void;
  unpin(slot: number): void;
}

/** Description of a node for `acquire`. */
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
 * An id stands for a place, parent and entry, and is found again through a hash index that grows by linear
 * hashing. So equal files are different files, as everywhere: an overlay above the mount, an archiver or a lock
 * that takes two of them for one would be wrong. A record lives while the kernel or another record refers to it.
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
  readonly #index: NodeIndex;
  readonly #pins: Pins | undefined;

  /** Shared memory for a table of up to `capacity` nodes. */
  static allocate(capacity: number): SharedArrayBuffer {
    const buffer = new SharedArrayBuffer(4 * (STATE_WORDS + capacity + capacity * WORDS));
    const state = new Int32Array(buffer, 0, STATE_WORDS);
    state[BUCKETS] = Math.min(FIRST_BUCKETS, capacity);
    state[FIRST_GENERATION] = randomInt(2 ** 32);
    // Record 0 is none, record 1 the root.
    state[TOP] = 2;
    return buffer;
  }

  constructor(buffer: SharedArrayBuffer, pins?: Pins) {
    this.#pins = pins;
    this.#words = new Int32Array(buffer);
    this.#bytes = Buffer.from(buffer as unknown as ArrayBuffer);
    this.#capacity = (this.#words.length - STATE_WORDS) / (WORDS + 1);
    this.#base = STATE_WORDS + this.#capacity;
    this.#index = new NodeIndex(this.#words, this.#bytes, this.#base);
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

  /**
   * The generation of a node's id: another one each time that the record is used, and in each mount, so that a
   * file handle from before is stale. 32 bits: the kernel keeps no more.
   */
  generation(id: number): number {
    return (this.#words[FIRST_GENERATION]! + this.#words[this.#at(id) + USES]!) >>> 0;
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

  /** Counts a reference to the node of a store path, by its hash; 0 when the table is full. */
  acquireStorePath(hash: Uint8Array, root: number, node: NodeDescription): number {
    return this.#locked(() => {
      let name = this.#index.findStorePath(hash);
      if (name === 0) {
        name = this.#allocateName();
        if (name === 0) return 0;
        const start = (this.#at(name) + DIGEST) * 4;
        this.#bytes.fill(0, start, start + 32).set(hash, start);
        this.#index.link(name);
        this.#pins?.pin(this.#words[this.#at(name) + ENTRY]!, hash);
      }
      const id = this.#acquire(root, name, name, node);
      this.#release(name);
      return id;
    });
  }

  /** Writes the inode number of a node, which the same node has in every mount, whatever its id. */
  inode(id: number, out: InodeNumber): void {
    const at = this.#at(id);
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

  /** The ids of the files with this content. Looks at all records: for what happens rarely. */
  *filesOf(digest: Uint8Array): Generator<number> {
    const wanted = asBuffer(digest);
    for (let id = 2; id < this.#words[TOP]!; id++) {
      if (this.kind(id) === RECORD.file && wanted.equals(this.digest(id))) yield id;
    }
  }

  /** Gives back references of the kernel. Too many at once do no harm. */
  forget(id: number, count: number): void {
    if (!this.has(id)) return;
    this.#locked(() => {
      const at = this.#at(id);
      if (this.#words[at + LOOKUPS] === UNCOUNTED) return;
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
    let id = this.#index.findPlace(parent, entry);
    // A store path can be replaced by another of its name: whoever knows the old one keeps it.
    if (id !== 0 && !this.#isOf(id, node)) {
      this.#index.unlink(id);
      id = 0;
    }
    if (id === 0) {
      id = this.#allocate();
      if (id === 0) return 0;
      this.#fill(id, parent, entry, storePath, node);
    }
    const lookups = this.#at(id) + LOOKUPS;
    if (this.#words[lookups]! < UNCOUNTED) this.#words[lookups]!++;
    return id;
  }

  /** Whether a record is of this node; of a link it knows no more than the length. */
  #isOf(id: number, { kind, executable, size, bytes, digestStart }: NodeDescription): boolean {
    const isSame = this.kind(id) === kind && this.executable(id) === executable && this.fileSize(id) === size;
    if (!isSame) return false;
    if (kind === RECORD.symlink) return true;
    const start = (this.#at(id) + DIGEST) * 4;
    return this.#bytes.compare(bytes, digestStart, digestStart + 32, start, start + 32) === 0;
  }

  #fill(id: number, parent: number, entry: number, storePath: number, node: NodeDescription): void {
    const words = this.#words;
    const at = this.#at(id);
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
    words[this.#at(parent) + REFS]!++;
    words[this.#at(storePath) + REFS]!++;
    this.#index.link(id);
  }

  /** Frees a record that nothing refers to any more, and then those that it referred to. */
  #release(id: number): void {
    const words = this.#words;
    const candidates = [id];
    for (let next = candidates.pop(); next !== undefined; next = candidates.pop()) {
      const at = this.#at(next);
      if (next === 1 || words[at + LOOKUPS] !== 0 || words[at + REFS] !== 0) continue;
      const kind = words[at]! & 0xff;
      if (kind === RECORD.free) continue;
      const parent = words[at + PARENT]!;
      const storePath = words[at + STORE_PATH]!;
      this.#index.unlink(next);
      this.#free(next, kind === RECORD.storePath);
      for (const other of [parent, storePath]) {
        if (other === 0) continue;
        words[this.#at(other) + REFS]!--;
        candidates.push(other);
      }
    }
  }

  #free(id: number, isName: boolean): void {
    const words = this.#words;
    const at = this.#at(id);
    const slot = words[at + ENTRY]!;
    words.fill(0, at, at + USES);
    words[COUNT]!--;
    const list = isName ? FREE_NAMES : FREE;
    words[at + NEXT] = words[list]!;
    words[list] = id;
    if (!isName) return;
    // It remains a record for store paths, with its pin.
    words[at + ENTRY] = slot;
    this.#pins?.unpin(slot);
  }

  #allocateName(): number {
    const words = this.#words;
    const free = words[FREE_NAMES]!;
    const slot = free === 0 ? words[PINS]! : words[this.#at(free) + ENTRY]!;
    const id = this.#allocate(free === 0 ? FREE : FREE_NAMES);
    if (id === 0) return 0;
    if (free === 0) words[PINS] = slot + 1;
    words[this.#at(id)] = RECORD.storePath;
    words[this.#at(id) + ENTRY] = slot;
    return id;
  }

  #allocate(list = FREE): number {
    const words = this.#words;
    let id = words[list]!;
    if (id !== 0) words[list] = words[this.#at(id) + NEXT]!;
    else {
      id = words[TOP]!;
      if (id >= this.#capacity) return 0;
      words[TOP] = id + 1;
    }
    words.fill(0, this.#at(id), this.#at(id) + USES);
    words[this.#at(id) + USES]!++;
    words[COUNT]!++;
    if (words[COUNT]! > words[BUCKETS]! && words[BUCKETS]! < this.#capacity) this.#index.grow();
    return id;
  }

  /** Whether a thread holds the lock. One that has died so may have left the table half changed. */
  isLockedBy(thread: number): boolean {
    return Atomics.load(this.#words, LOCK) === ownerOf(thread);
  }

  #locked<T>(work: () => T): T {
    while (Atomics.compareExchange(this.#words, LOCK, 0, ownerOf(threadId)) !== 0);
    try {
      return work();
    } finally {
      Atomics.store(this.#words, LOCK, 0);
    }
  }
}

/** The lock's value while a thread holds it; 0 is nobody. */
function ownerOf(thread: number): number {
  return thread + 1;
}
