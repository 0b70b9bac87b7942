import { STORE_PATH_HASH_LENGTH } from '../nix/store-path.ts';
import { asBuffer } from '../util/bytes.ts';

/** Kinds of rows: what has been looked into, or read. */
export const READING = { directory: 1, file: 2, part: 3 } as const;
export type Reading = (typeof READING)[keyof typeof READING];

/** Rows that wait to be taken; what comes while it is full is not noted. */
const CAPACITY = 1 << 14;
/** Threads that may note at the same time: each may have seen the last room. */
const THREADS = 16;
const DIGEST_LENGTH = 32;

/** Words of 32 bits before the rows. */
const WRITTEN = 0;
const TAKEN = 1;
const HEADER = 2;
/** Words of a row: kind, which is set last | hash of the store path | digest of the directory | entry | start | count | digest of the child. */
const KIND = 0;
const HASH = 1;
const DIRECTORY = HASH + STORE_PATH_HASH_LENGTH / 4;
const ENTRY = DIRECTORY + DIGEST_LENGTH / 4;
const START = ENTRY + 1;
const COUNT = START + 1;
const CHILD = COUNT + 1;
const WORDS = CHILD + DIGEST_LENGTH / 4;

/** What was read: an entry of a directory in the tree of a store path. */
export interface ReadEntry {
  readonly kind: Reading;
  /** Hash of the store path. */
  readonly storePath: Uint8Array;
  /** Digest of the directory that the entry is in. */
  readonly directory: Uint8Array;
  readonly entry: number;
  /** Of a part, the first byte and the number of bytes, in blocks. */
  readonly start: number;
  readonly count: number;
  /** Digest of what the entry is. */
  readonly child: Uint8Array;
}

/**
 * What the threads that serve the kernel have read, for one that takes note of it in its own time. Any number of them write:
 * that takes no lock and no message.
 */
export class ReadLog {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory);
    this.#bytes = new Uint8Array(memory);
  }

  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer((HEADER + CAPACITY * WORDS) * Int32Array.BYTES_PER_ELEMENT);
  }

  note({ kind, storePath, directory, entry, start, count, child }: ReadEntry): void {
    const waiting = (Atomics.load(this.#words, WRITTEN) - Atomics.load(this.#words, TAKEN)) | 0;
    if (waiting >= CAPACITY - THREADS) return;
    const at = rowAt(Atomics.add(this.#words, WRITTEN, 1));
    this.#bytes.set(storePath, (at + HASH) * 4);
    this.#bytes.set(directory, (at + DIRECTORY) * 4);
    this.#bytes.set(child, (at + CHILD) * 4);
    this.#words[at + ENTRY] = entry;
    this.#words[at + START] = start;
    this.#words[at + COUNT] = count;
    Atomics.store(this.#words, at + KIND, kind);
  }

  /** Takes what has been noted. Only one thread may. */
  *take(): Generator<ReadEntry> {
    for (;;) {
      const next = Atomics.load(this.#words, TAKEN);
      const at = rowAt(next);
      const kind = Atomics.load(this.#words, at + KIND) as Reading | 0;
      if (kind === 0) return;
      const entry: ReadEntry = {
        kind,
        storePath: this.#copy(at + HASH, STORE_PATH_HASH_LENGTH),
        directory: this.#copy(at + DIRECTORY, DIGEST_LENGTH),
        entry: this.#words[at + ENTRY]! >>> 0,
        start: this.#words[at + START]! >>> 0,
        count: this.#words[at + COUNT]! >>> 0,
        child: this.#copy(at + CHILD, DIGEST_LENGTH),
      };
      Atomics.store(this.#words, at + KIND, 0);
      Atomics.store(this.#words, TAKEN, (next + 1) | 0);
      yield entry;
    }
  }

  #copy(word: number, length: number): Uint8Array {
    return Uint8Array.from(asBuffer(this.#bytes).subarray(word * 4, word * 4 + length));
  }
}

/** The first word of a row. */
function rowAt(number: number): number {
  return HEADER + ((number >>> 0) % CAPACITY) * WORDS;
}
