import { existsSync, fdatasyncSync, readFileSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { RootDatabase } from 'lmdb';
import { invalid, messageOf, StoreError } from '../../util/errors.ts';
import { makeDirectory } from '../../util/system/make-directory.ts';
import { Ownership } from '../../util/system/ownership.ts';
import { checkDatabase, emptied, hasChunkFiles, isThere } from './check-database.ts';
import { syncPath } from './chunk-files.ts';
import { databasePath, openDatabase } from './database.ts';
import { FORMAT, FORMAT_KEY, requireFormat } from './format.ts';
import { keepReserve, makeRoomToDelete } from './reserve.ts';
import { RottenChunks } from './rotten-chunks.ts';
import { Table } from './table.ts';
import type { UseListener } from './use-listener.ts';
import { WriterLock } from './writer-lock.ts';

/** A store keeps what it is given; a cache may evict what can be fetched again. */
export type StoreKind = 'store' | 'cache';

const ENOSPC = 28;
/** How long a note waits for another writer, and closing for what is still to be written, in milliseconds. */
const PATIENCE_MS = 1000;
const CLOSE_MS = 5000;

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

/** Databases that this thread has open for writing, and how often. */
const writable = new Map<string, number>();

/**
 * The LMDB environment of a local store. Any number of processes and threads open the same one; it lends
 * named tables to the layers above.
 */
export class Environment {
  readonly dir: string;
  readonly databasePath: string;
  readonly kind: StoreKind;
  /** It was opened to be read: that waits for no writer, and needs no right to write. */
  readonly isReadOnly: boolean;
  readonly owner: Ownership;
  /** By digest, see rows.ts. */
  readonly directories: Table;
  readonly manifests: Table;
  readonly chunks: Table;
  readonly outboards: Table;
  readonly rotten: RottenChunks;
  /** Set for a cache that is kept below a size. */
  useListener: UseListener | undefined;
  readonly #root: RootDatabase;
  readonly #tables: Table[] = [];
  readonly #lock: WriterLock;
  readonly #meta: Table;
  /** After a commit that failed, LMDB's own promise of a flush never settles. */
  #lastFailed = false;
  #minding = false;

  private constructor(dir: string, root: RootDatabase, create: StoreKind | undefined, isReadOnly: boolean) {
    this.dir = dir;
    this.databasePath = databasePath(dir);
    this.isReadOnly = isReadOnly;
    this.owner = new Ownership(dir);
    this.#root = root;
    this.#lock = new WriterLock(dir, this.databasePath, true);
    this.#meta = this.table('meta');
    this.kind = this.#readMeta(create);
    this.directories = this.table('directory');
    this.manifests = this.table('manifest');
    this.chunks = this.table('chunk');
    this.outboards = this.table('outboard');
    this.rotten = new RottenChunks(dir);
  }

  /**
   * Opens the store in a directory, which is made when `create` names its kind. Throws NOT_FOUND when there is
   * none, FAILED_PRECONDITION for one of another format.
   */
  static open(dir: string, create?: StoreKind): Environment {
    return Environment.#open(dir, create, false);
  }

  /**
   * Opens a store to read it. A process that has done so cannot open the same one for writing besides; where it has it
   * open for writing, LMDB must have it so here too.
   */
  static openToRead(dir: string): Environment {
    return Environment.#open(dir, undefined, !writable.has(databasePath(dir)));
  }

  static #open(dir: string, create: StoreKind | undefined, readOnly: boolean): Environment {
    const path = databasePath(dir);
    if (!create && !isThere(path) && !hasChunkFiles(dir)) {
      const hint = 'import something, or mount it, to make one';
      throw new StoreError('NOT_FOUND', `cannot open the store in ${dir}: there is none; ${hint}`);
    }
    try {
      if (create) makeDirectories(dir);
      checkDatabase(dir);
      if (!readOnly) new WriterLock(dir, path, writable.has(path)).wait();
      // Whoever makes nothing new is to delete, or nearly so.
      if (!readOnly && !create) makeRoomToDelete(dir);
      const isNew = !existsSync(path);
      const root = openDatabase(path, { readOnly });
      const environment = new Environment(dir, root, create, readOnly);
      if (!readOnly) writable.set(path, (writable.get(path) ?? 0) + 1);
      if (create) keepReserve(dir, environment.owner);
      if (isNew) for (const made of [path, `${path}-lock`]) environment.owner.give(made);
      return environment;
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
    const table = new Table(this.#root, name, { mayLack: this.isReadOnly });
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
    this.#lock.wait();
    try {
      return this.#root.transactionSync(work);
    } catch (error) {
      throw error instanceof StoreError ? error : this.#failure(error);
    }
  }

  /**
   * Runs work soon, in one transaction with what others want at this moment, and lets this thread go on until the
   * writers' lock is ours. It must not throw, and is short.
   */
  transactionSoon<T>(work: () => T): Promise<T> {
    return this.committed(this.#root.transaction(work));
  }

  /**
   * The same for what is only noted: when another writer keeps the lock, this gives what is true as far as can be seen
   * (`meanwhile`), and the work is done when its time comes. A collector cannot delete before that writer is done either.
   */
  async noteSoon<T>(work: () => T, meanwhile: () => T): Promise<T> {
    const noted = this.transactionSoon(work);
    const timer = Promise.withResolvers<'late'>();
    const late = setTimeout(() => timer.resolve('late'), PATIENCE_MS);
    try {
      const first = await Promise.race([noted, timer.promise]);
      if (first !== 'late') return first;
      noted.catch(() => {});
      return meanwhile();
    } finally {
      clearTimeout(late);
    }
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
      // Several may have opened the same one.
      ...new Map(this.#tables.map(({ name, pages }) => [name, pages])).values(),
    ].reduce((sum, count) => sum + count);
    return { bytes: (stats.lastPageNumber + 1) * stats.pageSize, used: pages * stats.pageSize };
  }

  /**
   * Lets go of the snapshot that reads are served from, so that the next read sees what other threads and
   * processes have committed. Due before every sleep, and before a miss is believed.
   */
  refresh(): void {
    if (this.isReadOnly) for (const table of this.#tables) table.look();
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
    await this.useListener?.close();
    const left = (writable.get(this.databasePath) ?? 0) - (this.isReadOnly ? 0 : 1);
    if (left > 0) writable.set(this.databasePath, left);
    else writable.delete(this.databasePath);
    // Nor does another writer that does not end keep this process.
    await Promise.race([this.#closeRoot(), delay(CLOSE_MS, undefined, { ref: false })]);
  }

  /** LMDB would wait for ever for what failed; then the end of the process closes it. */
  async #closeRoot(): Promise<void> {
    if (this.#lastFailed) return;
    // What nobody waits for any more may still be on its way, and would meet a database that is closed.
    const isWritten = () =>
      this.#root.committed.then(
        () => true,
        () => false,
      );
    if (this.isReadOnly || (await isWritten())) await this.#root.close();
  }
}

function makeDirectories(dir: string): void {
  makeDirectory(dir);
  const owner = new Ownership(dir);
  for (const name of ['chunks', 'sessions']) owner.makeDirectory(join(dir, name));
}

function key(name: string): Buffer {
  return Buffer.from(name);
}

/** A number that differs from one boot of this machine to the next, never 0. */
export const BOOT_TAG =
  (Number.parseInt(readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').slice(0, 8), 16) | 1) >>> 0;
