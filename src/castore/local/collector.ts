import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { StoreError } from '../../util/errors.ts';
import { tryLock } from '../../util/system/file-lock.ts';
import { Directory } from '../directory.ts';
import type { Node } from '../node.ts';
import { ChunkFiles } from './chunk-files.ts';
import { DigestMap } from './digest-map.ts';
import type { Environment } from './environment.ts';
import { removeOrphans } from './orphans.ts';
import { keepReserve, rowsAtOnce } from './reserve.ts';
import { EPOCH_LENGTH, parseChunkRow, rowEpoch } from './rows.ts';
import { scan } from './scan.ts';
import { liveSessions } from './session.ts';
import type { LocalStore } from './store.ts';
import type { Table } from './table.ts';
import { TreeWalker } from './walk.ts';

/** Rows deleted in one transaction: a collector that is stopped inside one holds up all writers. */
const BATCH = 1000;

/**
 * Deletes from a local store what nothing refers to, while others read it and write into it.
 *
 * The protocol. Meta holds a counter, the epoch; each directory, chunk list, outboard and chunk row holds one too.
 *
 *  W1  A writer locks a new file in `sessions/`, reads the epoch s, writes it into the file, and reads the epoch
 *      again: unless it is still s, it begins anew. The kernel frees the lock when the process dies.
 *  W2  Whatever a writer writes, finds there, or says is there, it leaves with an epoch of at least s, in the
 *      transaction in which it writes or sees it; what an object refers to comes before the object. Epochs never
 *      fall. All this holds until the session ends; what it was for (a path info) has been committed by then.
 *      A daemon cannot know that: it takes another session now and then, and ends the old one long after.
 *  C1  One collector at a time (a lock). It counts the epoch up to E and commits that.
 *  C2  Then it reads the sessions. The cutoff is the least epoch of a locked one, or E. A file in which no epoch
 *      stands yet is passed over.
 *  C3  Then it decides which path infos go, deletes those, and marks all that the others refer to.
 *  C4  It deletes rows that are unmarked and, in the transaction that deletes them, older than the cutoff:
 *      what refers before what is referred to; after the commit, the files that they named.
 *
 * No writer loses what it relies on: let a writer with epoch s rely on a row. By W2 the row has an epoch of at
 * least s for as long as the session lives. If a collector deletes it meanwhile, its cutoff is greater than s
 * (C4), so it did not count this session (C2): either the file was not there yet or no epoch stood in it. Both
 * mean that the writer read the epoch, the last time before it went on, after C1 of this collector: s >= E. But
 * the cutoff is at most E. Contradiction.
 *
 * No path info loses what it refers to: one that stands before C3 marks is marked from. One that comes later is
 * put by a session that lives at that time. If that session was counted in C2, all that the path info refers to
 * has the cutoff's epoch or a later one, by W2; if not, s >= E as above, and the same follows.
 *
 * A collector that is killed leaves no damage: what refers goes first, rows before files. A file without a row
 * is an orphan, which the next one removes (orphans.ts).
 */
export class Collector {
  readonly cutoff: number;
  readonly #store: LocalStore;
  readonly #lock: number;

  private constructor(store: LocalStore, lock: number, dryRun: boolean) {
    this.#store = store;
    this.#lock = lock;
    const { env } = store;
    this.cutoff = dryRun ? foreseenCutoff(env) : cutoffAt(env, env.bumpEpoch());
  }

  /** Begins a collection. Throws UNAVAILABLE when another is under way. */
  static begin(store: LocalStore, dryRun = false): Collector {
    return new Collector(store, lockForDeleting(store.env), dryRun);
  }

  /**
   * Deletes what is not reached from `roots`, which are read after the path infos that go are gone. With
   * `dryRun` it only counts. `onBroken` hears of directories and chunk lists that are missing or damaged.
   */
  async sweep(roots: AsyncIterable<Node>, options: SweepOptions): Promise<Freed> {
    const live = await this.#mark(roots, options);
    await options.onMarked?.();
    const { directories, manifests, outboards, chunks } = this.#store.env;
    const freed: Freed = { directories: 0, manifests: 0, chunks: 0, bytes: 0 };
    const dead = await this.#deadDirectories(live.directories);
    freed.directories = this.#delete(directories, dead, freed, options);
    freed.manifests = await this.#sweepTable(manifests, live.blobs, freed, options);
    await this.#sweepTable(outboards, live.blobs, freed, options);
    freed.chunks = await this.#sweepTable(chunks, live.chunks, freed, options);
    if (!options.dryRun) freed.bytes += await removeOrphans(this.#store.env);
    return freed;
  }

  async #mark(roots: AsyncIterable<Node>, { onBroken }: SweepOptions) {
    const live = { directories: new DigestMap(), blobs: new DigestMap(), chunks: new DigestMap() };
    const walker = new TreeWalker(this.#store.reader, {
      directory: (digest) => live.directories.set(digest),
      blob: (digest) => live.blobs.set(digest),
      chunk: (digest) => void live.chunks.set(digest),
      outboardChunk: (digest) => void live.chunks.set(digest),
      broken: onBroken,
    });
    for await (const root of roots) await walker.walk(root);
    return live;
  }

  /** Parents first: a directory is larger than those in it. */
  async #deadDirectories(live: DigestMap): Promise<Uint8Array[]> {
    const dead: { key: Uint8Array; size: bigint }[] = [];
    const { env } = this.#store;
    for await (const rows of scan(env, env.directories)) {
      for (const { key, value } of rows) {
        if (rowEpoch(value) >= this.cutoff || live.has(key)) continue;
        dead.push({ key: Uint8Array.from(key), size: sizeOf(value) });
      }
    }
    return dead.sort((a, b) => (a.size < b.size ? 1 : -1)).map(({ key }) => key);
  }

  async #sweepTable(table: Table, live: DigestMap, freed: Freed, options: SweepOptions): Promise<number> {
    let count = 0;
    for await (const rows of scan(this.#store.env, table)) {
      const dead = rows.filter(({ key, value }) => rowEpoch(value) < this.cutoff && !live.has(key));
      const keys = dead.map(({ key }) => key);
      if (keys.length > 0) count += this.#delete(table, keys, freed, options);
    }
    return count;
  }

  /** Deletes those of these rows that are older than the cutoff; gives their number. */
  #delete(table: Table, keys: readonly Uint8Array[], freed: Freed, { dryRun }: SweepOptions): number {
    const { env } = this.#store;
    const mayGo = (row: Uint8Array) => rowEpoch(row) < this.cutoff;
    let count = 0;
    for (let next = 0; next < keys.length; ) {
      const some = keys.slice(next, next + rowsAtOnce(env.dir, BATCH));
      next += some.length;
      const work = () => deleteRows(env, table, some, mayGo, dryRun);
      const deleted = dryRun ? work() : env.transaction(work);
      if (!dryRun) deleted.removeFiles();
      freed.bytes += deleted.bytes;
      count += deleted.count;
    }
    return count;
  }

  end(): void {
    const { env } = this.#store;
    keepReserve(env.dir, env.owner);
    closeSync(this.#lock);
  }
}

export interface SweepOptions {
  readonly dryRun: boolean;
  readonly onBroken: (kind: 'directory' | 'manifest', digest: Uint8Array) => void;
  /** Called before anything is deleted: rows of other layers that refer to what will be go first. */
  readonly onMarked?: () => Promise<void>;
}

/** Counts of what a collection deleted. */
export interface Freed {
  directories: number;
  manifests: number;
  chunks: number;
  bytes: number;
}

/** Takes the lock under which rows are deleted. Throws UNAVAILABLE when another process has it. */
export function lockForDeleting(env: Environment): number {
  const lock = tryLock(join(env.dir, 'gc.lock'), env.owner);
  if (lock !== undefined) return lock;
  throw new StoreError('UNAVAILABLE', `another process is collecting garbage in ${env.dir}; try again later`);
}

/** What a collection that began now would spare: see C2. */
export function foreseenCutoff(env: Environment): number {
  return cutoffAt(env, env.epoch() + 1);
}

function cutoffAt(env: Environment, epoch: number): number {
  return Math.min(epoch, ...liveSessions(env).map((session) => session.epoch));
}

/** Rows that are gone, and the files that they named, which go after the commit. */
export interface Deleted {
  readonly count: number;
  readonly bytes: number;
  removeFiles(): void;
}

/** Deletes, in the transaction that is under way, those of these rows that are there and may go. */
export function deleteRows(
  env: Environment,
  table: Table,
  keys: readonly Uint8Array[],
  mayGo: (row: Uint8Array) => boolean,
  dryRun = false,
): Deleted {
  const files: { key: Uint8Array; suffix: string }[] = [];
  let count = 0;
  let bytes = 0;
  for (const key of keys) {
    const row = table.get(key);
    if (!row || !mayGo(row)) continue;
    count++;
    const chunk = table === env.chunks ? chunkOf(row, key) : undefined;
    bytes += chunk?.kind === 'file' ? chunk.size : row.length - EPOCH_LENGTH;
    if (chunk?.kind === 'file') files.push({ key, suffix: chunk.suffix });
    if (dryRun) continue;
    table.removeSync(key);
    if (chunk?.kind === 'file' || table === env.manifests) env.rotten.forget(key);
  }
  const removeFiles = () => {
    const chunkFiles = new ChunkFiles(env.dir);
    for (const { key, suffix } of files) chunkFiles.remove(Buffer.from(key).toString('hex'), suffix);
  };
  return { count, bytes, removeFiles };
}

/** A damaged row goes too; its file is an orphan then. */
function chunkOf(row: Uint8Array, key: Uint8Array) {
  try {
    return parseChunkRow(row, key);
  } catch {
    return undefined;
  }
}

function sizeOf(row: Uint8Array): bigint {
  try {
    return Directory.decode(row.subarray(EPOCH_LENGTH)).size;
  } catch {
    return 0n;
  }
}
