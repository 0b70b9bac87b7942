import type { Database, RootDatabase } from 'lmdb';
import { asBuffer } from '../../util/bytes.ts';
import { messageOf } from '../../util/errors.ts';

type RawTable = Database<Uint8Array, Uint8Array>;

/** A row, in memory of its own. */
export interface TableRow {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** The rows from one key to before another, in the order of their keys: at most so many. */
export interface TableRange {
  readonly start?: Uint8Array | undefined;
  readonly end?: Uint8Array | undefined;
  readonly limit?: number | undefined;
}

/** Pages that LMDB uses for a table, and the rows in it. */
interface RawStats {
  readonly treeBranchPageCount: number;
  readonly treeLeafPageCount: number;
  readonly overflowPages: number;
  readonly entryCount: number;
}

/** A table that is not there is looked for again after so long, in milliseconds. */
const LOOK_AGAIN_MS = 1000;
const NO_STATS: RawStats = { treeBranchPageCount: 0, treeLeafPageCount: 0, overflowPages: 0, entryCount: 0 };
const BYTES = { encoding: 'binary', keyEncoding: 'binary' } as const;

/**
 * A table of an LMDB environment, with byte strings as keys and values. It stands between the package and everybody
 * else: the package lends buffers whose `length` it has overwritten, which other methods of a buffer need not obey.
 * Reads come from the snapshot of this thread, or from the transaction that is under way.
 */
export class Table {
  readonly name: string;
  readonly #root: RootDatabase;
  #opened: RawTable | undefined;
  #lookAgainAt = 0;

  /**
   * Throws what LMDB does, for a table that cannot be opened or made. `mayLack`: one that is only read, and has nothing
   * in it until somebody makes it.
   */
  constructor(root: RootDatabase, name: string, { mayLack = false } = {}) {
    this.name = name;
    this.#root = root;
    if (mayLack) this.look();
    else this.#opened = this.#open();
  }

  #open(): RawTable {
    return this.#root.openDB<Uint8Array, Uint8Array>({ name: this.name, ...BYTES });
  }

  /** Looks, now and then, whether somebody has made it. That ends the snapshot that reads come from. */
  look(): void {
    if (this.#opened || performance.now() < this.#lookAgainAt) return;
    try {
      this.#opened = this.#open();
    } catch (error) {
      if (!/Database not found/.test(messageOf(error))) throw error;
      this.#lookAgainAt = performance.now() + LOOK_AGAIN_MS;
    }
  }

  /** For writing: it is there. */
  get #raw(): RawTable {
    this.#opened ??= this.#open();
    return this.#opened;
  }

  /** The value of a key, as a copy. */
  get(key: Uint8Array): Buffer | undefined {
    const value = this.#opened?.getBinary(asBuffer(key));
    return value && exact(value);
  }

  /** The value of a key in LMDB's own memory: it holds until the next read of any table in this thread. */
  view(key: Uint8Array): Buffer | undefined {
    const value = this.#opened?.getBinaryFast(asBuffer(key));
    return value && exact(value);
  }

  has(key: Uint8Array): boolean {
    return this.#opened?.getBinaryFast(asBuffer(key)) !== undefined;
  }

  *rows({ start, end, limit }: TableRange = {}): Generator<TableRow> {
    const range = {
      ...(start && start.length > 0 ? { start: asBuffer(start) } : {}),
      ...(end ? { end: asBuffer(end) } : {}),
      ...(limit === undefined ? {} : { limit }),
    };
    for (const { key, value } of this.#opened?.getRange(range) ?? [])
      yield { key: exact(key), value: exact(value) };
  }

  get count(): number {
    return this.#stats.entryCount;
  }

  /** Pages of the database that it takes. */
  get pages(): number {
    const { treeBranchPageCount, treeLeafPageCount, overflowPages } = this.#stats;
    return treeBranchPageCount + treeLeafPageCount + overflowPages;
  }

  get #stats(): RawStats {
    return (this.#opened?.getStats() as RawStats | undefined) ?? NO_STATS;
  }

  /** Writes a row with the next batch. Await it by `Environment.committed`. */
  put(key: Uint8Array, value: Uint8Array): Promise<boolean> {
    return this.#raw.put(asBuffer(key), value);
  }

  /** Writes a row with the next batch unless there is one; whether there was none. */
  putNew(key: Uint8Array, value: Uint8Array): Promise<boolean> {
    return this.#raw.ifNoExists(asBuffer(key), () => void this.#raw.put(asBuffer(key), value));
  }

  remove(key: Uint8Array): Promise<boolean> {
    return this.#raw.remove(asBuffer(key));
  }

  /** Within a transaction. */
  putSync(key: Uint8Array, value: Uint8Array): void {
    this.#raw.putSync(asBuffer(key), value);
  }

  /** Within a transaction; whether there was such a row. */
  removeSync(key: Uint8Array): boolean {
    return this.#raw.removeSync(asBuffer(key));
  }

  /** Within a transaction. */
  clearSync(): void {
    this.#raw.clearSync();
  }
}

/** The names of the tables in an environment. */
export function tableNames(root: RootDatabase): string[] {
  return [...root.getKeys({})].map((key) =>
    exact(key as Uint8Array)
      .toString('latin1')
      .replace(/\0$/, ''),
  );
}

/** The bytes that LMDB means, where `length` is a property that it has set and not the buffer's own. */
function exact({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, length);
}
