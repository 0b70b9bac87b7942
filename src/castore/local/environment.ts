import { existsSync, fdatasyncSync, mkdirSync, readFileSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import type { RootDatabase } from 'lmdb';
import { invalid, messageOf, StoreError } from '../../util/errors.ts';
import { checkDatabase, emptied, hasChunkFiles } from './check-database.ts';
import { syncPath } from './chunk-files.ts';
import { databasePath, openDatabase } from './database.ts';
import { FORMAT, FORMAT_KEY, requireFormat } from './format.ts';
import { RottenChunks } from './rotten-chunks.ts';
import { SharedTransaction } from './shared-transaction.ts';
import { Table } from './table.ts';

/** A store keeps what it is given; a cache may evict what can be fetched again. */
export type StoreKind = 'store' | 'cache';

const ENOSPC = 28;

/** Pages that LMDB uses for one of its trees. */
interface PageCounts {
  readonly treeBranchPageCount: number;
  readonly treeLeafPageCount: number;
  readonly overflowPages: number;
}

interface DatabaseStats {
  readonly pageSize: number;
  readonly lastPageNumber: number;
  readonly root: PageCounts;
  readonly free: PageCounts;
}

/** The error with which LMDB rejects. */
interface CommitFailure {
  readonly code?: number;
  readonly commitError?: Promise<never>;
}

/**
 * The LMDB environment of a local store. Any number of processes and threads open the same one; it lends
 * named tables to the layers above.
 */
export class Environment {
  readonly dir: string;
  readonly databasePath: string;
  readonly kind: StoreKind;
  /** By digest, see rows.ts. */
  readonly directories: Table;
  readonly manifests: Table;
  readonly chunks: Table;
  readonly rotten: RottenChunks;
  readonly #root: RootDatabase;
  readonly #tables: Table[] = [];
  readonly #shared = new SharedTransaction((work) => this.transaction(work));
  readonly #meta: Table;
  /** After a commit that failed, LMDB's own promise of a flush never settles. */
  #lastFailed = false;
  #minding = false;

  private constructor(dir: string, root: RootDatabase, create: StoreKind | undefined) {
    this.dir = dir;
    this.databasePath = databasePath(dir);
    this.#root = root;
    this.#meta = this.table('meta');
    this.kind = this.#readMeta(create);
    this.directories = this.table('directory');
    this.manifests = this.table('manifest');
    this.chunks = this.table('chunk');
    this.rotten = new RottenChunks(this.table('rotten'), (write) => this.committed(write));
  }

  /**
   * Opens the store in a directory, which is made when `create` names its kind. Throws NOT_FOUND when there is
   * none, FAILED_PRECONDITION for one of another format.
   */
  static open(dir: string, create?: StoreKind): Environment {
    const path = databasePath(dir);
    if (!create && !existsSync(path) && !hasChunkFiles(dir)) {
      const hint = 'import something, or mount it, to make one';
      throw new StoreError('NOT_FOUND', `cannot open the store in ${dir}: there is none; ${hint}`);
    }
    try {
      if (create) for (const sub of ['chunks', 'sessions']) mkdirSync(join(dir, sub), { recursive: true });
      checkDatabase(dir);
      return new Environment(dir, openDatabase(path), create);
    } catch (error) {
      if (error instanceof StoreError) throw error;
      throw new StoreError('FAILED_PRECONDITION', `cannot open the store in ${dir}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  #readMeta(create: StoreKind | undefined): StoreKind {
    if (!this.#meta.get(FORMAT_KEY) && hasChunkFiles(this.dir)) throw emptied(this.dir);
    if (!this.#meta.get(FORMAT_KEY) && create) {
      this.#root.transactionSync(() => {
        if (this.#meta.get(FORMAT_KEY)) return;
        this.#meta.putSync(key('kind'), Buffer.from(create));
        this.#meta.putSync(key('epoch'), Buffer.from('1'));
        this.#meta.putSync(FORMAT_KEY, Buffer.from(String(FORMAT)));
      });
    }
    requireFormat(this.dir, this.#meta.get(FORMAT_KEY)?.toString());
    const kind = this.#meta.get(key('kind'))?.toString();
    if (kind !== 'store' && kind !== 'cache') throw invalid(`the store in ${this.dir} has an unknown kind`);
    return kind;
  }

  table(name: string): Table {
    const table = new Table(this.#root, name);
    this.#tables.push(table);
    return table;
  }

  /** The collector's counter, as committed now. */
  epoch(): number {
    this.refresh();
    return this.epochNow();
  }

  /** Begins another epoch, and gives it. */
  bumpEpoch(): number {
    return this.transaction(() => {
      const epoch = this.epochNow() + 1;
      this.#meta.putSync(key('epoch'), Buffer.from(String(epoch)));
      return epoch;
    });
  }

  /** The collector's counter as the transaction that is under way sees it. */
  epochNow(): number {
    return Number(this.#meta.get(key('epoch'))?.toString());
  }

  /**
   * Runs a transaction that sees the latest state. Short, and never round a wait. Throws NO_SPACE, or INTERNAL,
   * when it cannot be committed.
   */
  transaction<T>(work: () => T): T {
    try {
      return this.#root.transactionSync(work);
    } catch (error) {
      throw error instanceof StoreError ? error : this.#failure(error);
    }
  }

  /** Runs small work soon, in one transaction with what others want at this moment. It must not throw. */
  transactionSoon<T>(work: () => T): Promise<T> {
    return this.#shared.run(work);
  }

  /** Bytes of the database file, and those of them that are in use. */
  databaseSize(): { bytes: number; used: number } {
    this.refresh();
    const stats = this.#root.getStats() as DatabaseStats;
    const pages = [
      ...[stats.root, stats.free].map(
        ({ treeBranchPageCount, treeLeafPageCount, overflowPages }) =>
          treeBranchPageCount + treeLeafPageCount + overflowPages,
      ),
      ...this.#tables.map((table) => table.pages),
    ].reduce((sum, count) => sum + count);
    return { bytes: (stats.lastPageNumber + 1) * stats.pageSize, used: pages * stats.pageSize };
  }

  /**
   * Lets go of the snapshot that reads are served from, so that the next read sees what other threads and
   * processes have committed. Due before every sleep, and before a miss is believed.
   */
  refresh(): void {
    this.#root.resetReadTxn();
  }

  /**
   * Waits for a write that was handed to LMDB. Throws NO_SPACE, or INTERNAL, when it could not be committed.
   */
  async committed<T>(write: Promise<T>): Promise<T> {
    this.#mindBatch();
    try {
      const result = await write;
      this.#lastFailed = false;
      return result;
    } catch (error) {
      this.#lastFailed = true;
      // LMDB gives the cause by a promise of its own, which would end the process if nobody took it.
      const cause = await Promise.resolve((error as CommitFailure).commitError).catch((reason) => reason);
      throw this.#failure(cause ?? error);
    }
  }

  /** Each batch of LMDB's has a promise of its own besides: it would end the process if nobody took it. */
  #mindBatch(): void {
    if (this.#minding) return;
    this.#minding = true;
    setImmediate(() => {
      this.#minding = false;
      this.#root.committed.then(undefined, () => {});
    });
  }

  #failure(cause: unknown): StoreError {
    // A write that was cut short by a full disk is an I/O error to LMDB.
    const full = (cause as CommitFailure).code === ENOSPC || statfsSync(this.dir).bavail === 0;
    return full
      ? new StoreError('NO_SPACE', `no space left for the store in ${this.dir}`, { cause })
      : new StoreError('INTERNAL', `cannot write to the store in ${this.dir}: ${messageOf(cause)}`, {
          cause,
        });
  }

  /** Everything committed so far is on disk. */
  async flushed(): Promise<void> {
    if (this.#lastFailed) syncPath(this.databasePath, fdatasyncSync);
    else await this.#root.flushed;
  }

  async close(): Promise<void> {
    // LMDB would wait for ever for what failed; then the end of the process closes it.
    if (!this.#lastFailed) await this.#root.close();
  }
}

function key(name: string): Buffer {
  return Buffer.from(name);
}

/** A number that differs from one boot of this machine to the next, never 0. */
export const BOOT_TAG =
  (Number.parseInt(readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').slice(0, 8), 16) | 1) >>> 0;
