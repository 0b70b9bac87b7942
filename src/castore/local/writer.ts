import { setImmediate as turn } from 'node:timers/promises';
import { asBuffer, latin1 } from '../../util/bytes.ts';
import type { Chunk } from '../blob/service.ts';
import type { Digest } from '../digest.ts';
import type { Directory } from '../directory.ts';
import { ChunkFiles } from './chunk-files.ts';
import type { Environment, Table } from './environment.ts';
import { directoryRow, fileRow, inlineRow, manifestRow, rowEpoch, withEpoch } from './rows.ts';
import { Session } from './session.ts';

/** Chunks up to this size live in the database, larger ones in files. */
export const INLINE_LIMIT = 64 * 1024;
/** Bytes of rows in one transaction: a writer that is stopped inside one holds up all others. */
const TRANSACTION_BYTES = 4 << 20;
/** Rows that wait for their files to be synced; beyond it they are not left waiting for a flush. */
const MAX_WAITING_ROWS = 1 << 16;

interface Row {
  readonly table: Table;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
  /** The file that the row names, if it names one. */
  readonly file?: { readonly hex: string; readonly suffix: string };
}

/**
 * Writes that are acknowledged: what was written before a `flush` is visible and on disk when that flush
 * resolves. Files go first, then the rows that name them, then what refers to those rows.
 */
export class LocalWriter {
  readonly #env: Environment;
  readonly #files: ChunkFiles;
  #session: Session | undefined;
  /** Keys of all rows that are not committed yet. */
  readonly #uncommitted = new Set<string>();
  /** Rows that depend on no file: they may be committed at any time. */
  #free: Row[] = [];
  #freeBytes = 0;
  /** Rows to be committed after `#unsynced`, in this order. */
  #waiting: Row[] = [];
  #unsynced: string[] = [];
  /** Whether the last commit failed: what it was to write is kept, and nothing is added to it. */
  #failed = false;
  #spilling: Promise<void> = Promise.resolve();
  #flushing: Promise<void> | undefined;
  #nextFlush: Promise<void> | undefined;

  constructor(env: Environment) {
    this.#env = env;
    this.#files = new ChunkFiles(env.dir);
  }

  /** The epoch of this writer's session, which begins with its first write. */
  get #epoch(): number {
    this.#session ??= Session.begin(this.#env);
    return this.#session.epoch;
  }

  /** Stores a chunk unless it is there. The bytes may change once this has resolved. */
  async chunk(digest: Digest, bytes: Uint8Array): Promise<void> {
    const epoch = this.#epoch;
    if (this.#failed) await this.flush();
    if (this.has(this.#env.chunks, digest.bytes)) return;
    const key = digest.bytes;
    if (bytes.length <= INLINE_LIMIT) {
      this.#remember(this.#env.chunks, key);
      this.#free.push({ table: this.#env.chunks, key, value: inlineRow(epoch, bytes) });
      this.#freeBytes += bytes.length;
      if (this.#freeBytes >= TRANSACTION_BYTES) await this.#spill();
      return;
    }
    const suffix = this.#files.write(digest.hex, bytes);
    this.#unsynced.push(this.#files.path(digest.hex, suffix));
    const value = fileRow(epoch, bytes.length, suffix, 0);
    await this.#wait({ table: this.#env.chunks, key, value, file: { hex: digest.hex, suffix } });
  }

  /** Stores a blob's chunk list; its chunks were written before. */
  async manifest(digest: Digest, chunks: readonly Chunk[]): Promise<void> {
    const epoch = this.#epoch;
    if (this.has(this.#env.manifests, digest.bytes)) return;
    await this.#wait({ table: this.#env.manifests, key: digest.bytes, value: manifestRow(epoch, chunks) });
  }

  async directory(directory: Directory): Promise<void> {
    const epoch = this.#epoch;
    if (this.has(this.#env.directories, directory.digest.bytes)) return;
    const value = directoryRow(epoch, directory.bytes);
    await this.#wait({ table: this.#env.directories, key: directory.digest.bytes, value });
  }

  /** Stores a row of a table of another layer, after everything before it. */
  async row(table: Table, key: Uint8Array, value: Uint8Array): Promise<void> {
    await this.#wait({ table, key, value });
  }

  /** Whether an object is there, or will be with the next flush. It stays until this session ends. */
  has(table: Table, digest: Uint8Array): boolean {
    if (this.#uncommitted.has(uncommittedKey(table, digest))) return true;
    const row = table.getBinaryFast(asBuffer(digest));
    if (!row) return false;
    return rowEpoch(row) >= this.#epoch || this.#touch(table, digest);
  }

  /** Takes an older row into this session's epoch; false when it has just been deleted. */
  #touch(table: Table, digest: Uint8Array): boolean {
    return this.#env.transaction(() => {
      const row = table.get(asBuffer(digest));
      if (!row) return false;
      if (rowEpoch(row) < this.#epoch) table.putSync(asBuffer(digest), withEpoch(row, this.#epoch));
      return true;
    });
  }

  #remember(table: Table, key: Uint8Array): void {
    this.#uncommitted.add(uncommittedKey(table, key));
  }

  async #wait(row: Row): Promise<void> {
    this.#remember(row.table, row.key);
    this.#waiting.push(row);
    if (this.#waiting.length >= MAX_WAITING_ROWS) await this.flush();
  }

  /** Commits the free rows while the caller goes on; at most one such commit is under way. */
  async #spill(): Promise<void> {
    const rows = this.#free;
    this.#free = [];
    this.#freeBytes = 0;
    await this.#spilling;
    this.#spilling = this.#commit(rows).catch(() => {
      // The next flush tries again, and says why it fails.
      this.#failed = true;
      this.#free.unshift(...rows);
    });
    // The database's thread takes the batch at the next turn of the event loop.
    await turn();
  }

  /** Resolves when everything written before is visible and on disk. Callers at the same time share one. */
  flush(): Promise<void> {
    if (!this.#flushing) {
      this.#flushing = this.#drain().finally(() => {
        this.#flushing = undefined;
      });
      return this.#flushing;
    }
    this.#nextFlush ??= this.#flushing
      .catch(() => {})
      .then(() => {
        this.#nextFlush = undefined;
        return this.flush();
      });
    return this.#nextFlush;
  }

  async #drain(): Promise<void> {
    await this.#spilling;
    const free = this.#free;
    const waiting = this.#waiting;
    const unsynced = this.#unsynced;
    this.#free = [];
    this.#freeBytes = 0;
    this.#waiting = [];
    this.#unsynced = [];
    try {
      await Promise.all([this.#commit(free), this.#files.sync(unsynced)]);
      await this.#commit(waiting);
      await this.#env.flushed();
      this.#failed = false;
    } catch (error) {
      // None of it was acknowledged, and somebody else may count on it: the next flush tries again.
      this.#failed = true;
      this.#free.unshift(...free);
      this.#waiting.unshift(...waiting);
      this.#unsynced.unshift(...unsynced);
      this.#env.refresh();
      throw error;
    }
  }

  /** Commits rows in order, in transactions of bounded size. */
  async #commit(rows: readonly Row[]): Promise<void> {
    for (let next = 0; next < rows.length; ) {
      const first = next;
      const puts: Promise<unknown>[] = [];
      for (let bytes = 0; next < rows.length && bytes < TRANSACTION_BYTES; next++) {
        bytes += rows[next]!.value.length;
        puts.push(this.#put(rows[next]!));
      }
      await Promise.all(puts);
      for (const row of rows.slice(first, next)) this.#uncommitted.delete(uncommittedKey(row.table, row.key));
    }
  }

  async #put({ table, key, value, file }: Row): Promise<void> {
    if (!file) {
      await this.#env.committed(table.put(asBuffer(key), value));
      return;
    }
    const isFirst = await this.#env.committed(
      table.ifNoExists(asBuffer(key), () => {
        void table.put(asBuffer(key), value);
      }),
    );
    // It may be our own, of a commit that failed later on.
    if (isFirst || asBuffer(value).equals(table.get(asBuffer(key)) ?? new Uint8Array())) return;
    // Another writer was faster with the same chunk: its file stays, ours goes.
    this.#files.remove(file.hex, file.suffix);
    this.#touch(table, key);
  }

  /** Ends the session. Whatever was not flushed is gone. */
  close(): void {
    for (const { table, key, file } of this.#waiting) {
      if (file && !table.get(asBuffer(key))) this.#files.remove(file.hex, file.suffix);
    }
    this.#session?.end();
    this.#session = undefined;
  }
}

function uncommittedKey(table: Table, digest: Uint8Array): string {
  return `${(table as { name?: string }).name}/${latin1(digest)}`;
}
