import { setImmediate as turn } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import { Turns } from '../../util/async/turns.ts';
import { latin1 } from '../../util/bytes.ts';
import { messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { Chunk } from '../blob/service.ts';
import type { Digest } from '../digest.ts';
import type { Directory } from '../directory.ts';
import { ChunkFiles } from './chunk-files.ts';
import type { Environment } from './environment.ts';
import { requireRoom } from './reserve.ts';
import { RowCheck } from './row-check.ts';
import type { Row } from './row-commits.ts';
import { isSameList, RowCommits, TRANSACTION_BYTES } from './row-commits.ts';
import { directoryRow, EPOCH_LENGTH, fileRow, inlineRow, manifestRow, rowEpoch, withEpoch } from './rows.ts';
import { Session } from './session.ts';
import type { Table } from './table.ts';

/** Chunks up to this size live in the database, larger ones in files. */
export const INLINE_LIMIT = 64 * 1024;
/**
 * A blob that was found whole is not looked at again for so long, in milliseconds, and the longer, the longer it took: one of
 * a hundred thousand chunks would keep the others waiting, however often it is asked for.
 */
const WHOLE_MS = 1000;
const WHOLE_TIMES = 20;
const MAX_WHOLE_MS = 30_000;
const MAX_WHOLE = 1 << 14;
const LOOKED_UP_AT_ONCE = 256;
/** Rows that wait for their files to be synced; beyond it they are not left waiting for a flush. */
const MAX_WAITING_ROWS = 1 << 16;

/**
 * A writer that serves others for as long as it lives keeps what it has put, or said to be there, for at least this
 * long, in milliseconds, until something refers to it: nobody says when an upload is over.
 */
export const GRACE_MS = 3_600_000;

/**
 * Writes that are acknowledged: what was written before a `flush` is visible and on disk when that flush
 * resolves. Files go first, then the rows that name them, then what refers to those rows.
 */
export class LocalWriter {
  readonly #env: Environment;
  readonly #files: ChunkFiles;
  readonly #check: RowCheck;
  readonly #commits: RowCommits;
  readonly #renews: boolean;
  #session: Session | undefined;
  /** The session before, which ends a while after it was replaced. */
  #retired: Session | undefined;
  #renewal: NodeJS.Timeout | undefined;
  /** Blobs of several chunks that were found whole just now, in this session: many ask for the same one at once. */
  readonly #whole = new LRUCache<string, { since: number }>({ max: MAX_WHOLE });
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

  /** `renews` is for one that lives on when what it was asked for is done. */
  constructor(env: Environment, renews: boolean) {
    this.#env = env;
    this.#renews = renews;
    this.#files = new ChunkFiles(env.dir);
    this.#check = new RowCheck(env);
    this.#commits = new RowCommits(env, this.#files, this.#check);
  }

  /** Begins with the first write, or the first answer that somebody may rely on. */
  get #current(): Session {
    if (!this.#session) {
      this.#session = Session.begin(this.#env);
      this.#whole.clear();
      if (this.#renews) this.#renewLater();
    }
    return this.#session;
  }

  #renewLater(): void {
    this.#renewal ??= setTimeout(() => {
      this.#renewal = undefined;
      void this.#renew();
    }, GRACE_MS).unref();
  }

  /**
   * Retires the session, so that a collector may take what was left lying: the next write begins another. The
   * one before ends, unless a row that was written under it still cannot be committed.
   */
  async #renew(): Promise<void> {
    try {
      await this.flush();
      this.#retired?.end();
      this.#retired = this.#session;
      this.#session = undefined;
    } catch (error) {
      log.warn('cannot end a session yet', { error: messageOf(error) });
    }
    if (this.#retired) this.#renewLater();
  }

  /** The epoch, if this writer has begun. */
  get begunEpoch(): number | undefined {
    return this.#session?.epoch;
  }

  /** The least epoch of the rows that this writer writes or relies on. */
  get epoch(): number {
    return this.#current.epoch;
  }

  /**
   * Stores a chunk unless it is there; one that is damaged, as far as a look at it tells, is written anew. The bytes
   * may change once this has resolved.
   */
  async chunk(digest: Digest, bytes: Uint8Array): Promise<void> {
    const { epoch, tag } = this.#current;
    if (this.#failed) await this.flush();
    if (await this.#find(this.#env.chunks, digest.bytes)) return;
    this.#env.useListener?.added(digest.bytes, bytes.length);
    requireRoom(this.#env.dir, bytes.length);
    const key = digest.bytes;
    if (bytes.length <= INLINE_LIMIT) {
      this.#remember(this.#env.chunks, key);
      this.#free.push({ table: this.#env.chunks, key, value: inlineRow(epoch, bytes) });
      this.#freeBytes += bytes.length;
      if (this.#freeBytes >= TRANSACTION_BYTES) await this.#spill();
      return;
    }
    const suffix = this.#files.write(digest.hex, bytes, tag, true);
    this.#unsynced.push(this.#files.path(digest.hex, suffix));
    const value = fileRow(epoch, bytes.length, suffix, 0);
    await this.#wait({ table: this.#env.chunks, key, value, file: { hex: digest.hex, suffix } });
  }

  /** Stores a blob's chunk list; its chunks were written before. */
  async manifest(digest: Digest, chunks: readonly Chunk[]): Promise<void> {
    const { epoch } = this;
    const { manifests } = this.#env;
    const value = manifestRow(epoch, chunks);
    if (await this.#find(manifests, digest.bytes)) {
      const theirs = manifests.get(digest.bytes);
      if (!theirs || isSameList(theirs, value)) return;
    }
    this.#env.useListener?.added(digest.bytes, value.length);
    await this.#wait({ table: manifests, key: digest.bytes, value });
  }

  /** Stores of which chunks the outboard of a blob is; they were written before. */
  async outboard(digest: Digest, chunks: readonly Chunk[]): Promise<void> {
    const value = manifestRow(this.epoch, chunks);
    this.#env.useListener?.added(digest.bytes, value.length);
    await this.#wait({ table: this.#env.outboards, key: digest.bytes, value });
  }

  async directory(directory: Directory): Promise<void> {
    const { epoch } = this;
    if (await this.#find(this.#env.directories, directory.digest.bytes)) return;
    const value = directoryRow(epoch, directory.bytes);
    this.#env.useListener?.added(directory.digest.bytes, value.length);
    await this.#wait({ table: this.#env.directories, key: directory.digest.bytes, value });
  }

  /**
   * Stores a row of a table of another layer, after everything before it. Over one that is there comes what `unite` makes
   * of both, whoever writes it at the same time; it must not throw.
   */
  async row(table: Table, key: Uint8Array, value: Uint8Array, unite?: Row['unite']): Promise<void> {
    await this.#wait({ table, key, value, unite });
  }

  /**
   * Whether an object is there and sound, or will be with the next flush. Then it stays until this session ends,
   * provided that the same was asked of all that it refers to.
   */
  async has(table: Table, digest: Uint8Array): Promise<boolean> {
    return this.#find(table, digest);
  }

  /** At once, but for older rows. */
  #find(table: Table, digest: Uint8Array): boolean | Promise<boolean> {
    this.#env.useListener?.used(digest);
    if (this.#uncommitted.has(uncommittedKey(table, digest))) return true;
    const row = table.view(digest);
    if (!row) return false;
    // Before another row is looked at, which may take the place of this one.
    const epoch = row.length < EPOCH_LENGTH ? 0 : rowEpoch(row);
    if (!this.#check.isSound(table, digest, row)) return false;
    return epoch >= this.epoch || this.#touch(table, digest, this.epoch);
  }

  /** Whether a blob is there, by its chunk list or as a single chunk. Then it stays until this session ends. */
  async hasBlob(
    digest: Uint8Array,
    chunks: Iterable<Chunk> | undefined,
    signal?: AbortSignal,
  ): Promise<boolean> {
    if (!chunks) return this.has(this.#env.chunks, digest);
    const key = latin1(digest);
    const begun = performance.now();
    const whole = this.#whole.get(key);
    // What has been found rotten since may be a part of it.
    if (whole && (begun < whole.since + WHOLE_MS || !this.#env.rotten.areThere)) return true;
    const turns = new Turns(signal);
    // Older rows are touched together.
    let looked: (boolean | Promise<boolean>)[] = [];
    const areThere = async () => {
      const found = await Promise.all(looked);
      looked = [];
      if (turns.isDue) await turns.take();
      return found.every(Boolean);
    };
    for (const chunk of chunks) {
      const length = looked.push(this.#find(this.#env.chunks, chunk.digest.bytes));
      if (length === LOOKED_UP_AT_ONCE && !(await areThere())) return false;
    }
    if (!(await areThere())) return false;
    if (!(await this.has(this.#env.manifests, digest))) return false;
    const since = performance.now();
    const ttl = Math.min(Math.max((since - begun) * WHOLE_TIMES, WHOLE_MS), MAX_WHOLE_MS);
    this.#whole.set(key, { since }, { ttl });
    return true;
  }

  /** Takes a row into a later epoch; false when it has just been deleted. */
  #touch(table: Table, digest: Uint8Array, epoch: number): Promise<boolean> {
    const touch = () => {
      const row = table.get(digest);
      if (row && rowEpoch(row) < epoch) table.putSync(digest, withEpoch(row, epoch));
      return row !== undefined;
    };
    return this.#env.noteSoon(touch, () => table.has(digest));
  }

  #remember(table: Table, key: Uint8Array): void {
    this.#uncommitted.add(uncommittedKey(table, key));
  }

  async #wait(row: Row): Promise<void> {
    requireRoom(this.#env.dir, row.value.length);
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

  #commit(rows: readonly Row[]): Promise<void> {
    return this.#commits.commit(rows, ({ table, key }) =>
      this.#uncommitted.delete(uncommittedKey(table, key)),
    );
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

  /** Ends the session. Whatever was not flushed is gone. */
  close(): void {
    for (const { table, key, file } of this.#waiting) {
      if (file && !table.has(key)) this.#files.remove(file.hex, file.suffix);
    }
    clearTimeout(this.#renewal);
    for (const session of [this.#session, this.#retired]) session?.end();
    this.#session = undefined;
    this.#retired = undefined;
  }
}

function uncommittedKey(table: Table, digest: Uint8Array): string {
  return `${table.name}/${latin1(digest)}`;
}
