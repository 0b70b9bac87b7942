import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  linkSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
} from 'node:fs';
import { Digest } from '../../castore/digest.ts';
import { emptied, hasChunkFiles, isThere } from '../../castore/local/check-database.ts';
import { deleteRows, lockForDeleting } from '../../castore/local/collector.ts';
import { databasePath } from '../../castore/local/database.ts';
import { takeExclusively } from '../../castore/local/exclusive.ts';
import { freeBytes, makeRoomToDelete, rowsAtOnce } from '../../castore/local/reserve.ts';
import { LocalStore } from '../../castore/local/store.ts';
import { ROTTEN } from '../../castore/local/verify.ts';
import { formatSize } from '../../util/bytes.ts';
import { messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { localBackend } from '../open/backends/local.ts';
import type { Services } from '../services.ts';
import type { CheckReport, DamagedPath } from './check/report.ts';
import { restorePath } from './check/restore.ts';
import type { OnRows } from './check/scan.ts';
import { copyGood, findGaps, verify } from './check/scan.ts';
import { finishCollection } from './condemned.ts';

/** Rows taken out in one transaction. */
const BATCH = 256;

/** Checks a local store: every row against its key or checksum, every chunk file, and that no path lacks anything. */
export async function checkStore(dir: string, onRows: OnRows = () => {}): Promise<CheckReport> {
  const path = databasePath(dir);
  if (!existsSync(path) && !hasChunkFiles(dir)) {
    throw new StoreError('FAILED_PRECONDITION', `there is no store in ${dir}`);
  }
  const report = isThere(path) ? await verify(dir, await findGaps(dir, path, onRows), onRows) : undefined;
  if (!report?.objects && hasChunkFiles(dir)) throw emptied(dir);
  if (report) await remember(dir, report);
  return report ?? verify(dir, [], onRows);
}

/** Has nobody rely on the chunks that were found rotten, so that they are written anew when somebody brings them. */
async function remember(dir: string, { structure, damages }: CheckReport): Promise<void> {
  const rotten = damages.filter(({ table, problem }) => table === 'chunk' && problem === ROTTEN);
  if (structure.length > 0 || rotten.length === 0) return;
  try {
    const local = LocalStore.open(dir, 'store');
    for (const { key } of rotten) local.env.rotten.note(Digest.of(Buffer.from(key, 'hex')));
    await local.close();
  } catch (error) {
    // As of a store that can only be read: what is wrong has been told.
    log.debug('cannot note what is damaged', { error: messageOf(error) });
  }
}

export interface RepairReport {
  readonly found: CheckReport;
  /** Whether the database was built anew. */
  readonly rebuilt: boolean;
  /** Store paths that were made whole from elsewhere, and those that were taken out of service. */
  readonly restored: readonly DamagedPath[];
  readonly removed: readonly DamagedPath[];
  /** Store paths that others refer to, and that are still not there. */
  readonly missing: readonly DamagedPath[];
}

/**
 * Takes what is damaged out of service, and gets it again from another store where there is one. When nobody
 * else has the store open, its database is built anew of what is good; when somebody has, and it is the
 * database itself that is damaged, this throws FAILED_PRECONDITION.
 */
export async function repairStore(dir: string, from?: Services, onRows?: OnRows): Promise<RepairReport> {
  const found = await checkStore(dir, onRows);
  const rebuilt = await rebuild(dir, found);
  if (found.hidden.length > 0) await finish(dir);
  // The new database may hold less than the old one did, and what was hidden has not been checked.
  const report = rebuilt || found.hidden.length > 0 ? await checkStore(dir, onRows) : found;
  const local = LocalStore.open(dir, 'store');
  const restored: DamagedPath[] = [];
  const removed: DamagedPath[] = [];
  try {
    takeOut(local, report);
    const lost = new Map([...report.paths, ...found.paths].map((path) => [path.hash, path]));
    for (const path of lost.values()) {
      if (from && (await tryToRestore(local, from, path))) restored.push(path);
      else removed.push(path);
    }
    if (local.env.kind === 'store') removePaths(local, removed);
    const missing: DamagedPath[] = [];
    for (const path of report.missing) {
      if (from && (await tryToRestore(local, from, path))) restored.push(path);
      else missing.push(path);
    }
    return { found, rebuilt, restored, removed, missing };
  } finally {
    await local.close();
  }
}

/** Brings back what a collection has left out of sight. */
async function finish(dir: string): Promise<void> {
  const local = LocalStore.open(dir, 'store');
  finishCollection(local.env);
  await local.close();
}

async function tryToRestore(local: LocalStore, from: Services, path: DamagedPath): Promise<boolean> {
  try {
    return await restorePath(from, localBackend(local), Buffer.from(path.hash, 'hex'));
  } catch (error) {
    log.warn('cannot restore', { path: path.path, error: messageOf(error) });
    return false;
  }
}

/** Builds the database anew of what is good in it. False when it is sound enough to stay. */
async function rebuild(dir: string, { structure }: CheckReport): Promise<boolean> {
  // Rows that are wrong can be taken out as they are.
  if (structure.length === 0) return false;
  const needed = statSync(databasePath(dir)).size;
  if (freeBytes(dir) < needed) {
    throw new StoreError(
      'NO_SPACE',
      `the database in ${dir} has to be rebuilt (${structure[0]}), which takes up to ${formatSize(needed)}; ` +
        `${formatSize(freeBytes(dir))} are free on that disk`,
    );
  }
  const exclusive = takeExclusively(dir);
  if ('heldBy' in exclusive) {
    throw new StoreError(
      'FAILED_PRECONDITION',
      `the database in ${dir} is damaged (${structure[0]}) and in use: stop process ${exclusive.heldBy} first`,
    );
  }
  const path = databasePath(dir);
  const fresh = `${path}.new`;
  // LMDB would wait for our lock: under another name the database has another.
  const old = `${path}.old`;
  const clear = (...databases: string[]) => {
    for (const one of databases.flatMap((database) => [database, `${database}-lock`]))
      rmSync(one, { force: true });
  };
  try {
    clear(fresh, old);
    linkSync(path, old);
    await copyGood(dir, old, fresh);
    const { uid, gid, mode } = statSync(old);
    chownSync(fresh, uid, gid);
    chmodSync(fresh, mode);
    renameSync(fresh, path);
    // What could not be read is left for others to look at.
    renameSync(old, `${path}.damaged`);
    // Whoever begins to wait for it just now fails; the next one makes a new one of it.
    truncateSync(`${path}-lock`);
  } finally {
    clear(fresh, old);
    exclusive.release();
  }
  return true;
}

function takeOut(local: LocalStore, { damages }: CheckReport): void {
  const lock = lockForDeleting(local.env);
  try {
    makeRoomToDelete(local.env.dir);
    for (let next = 0; next < damages.length; ) {
      const some = damages.slice(next, next + rowsAtOnce(local.env.dir, BATCH));
      next += some.length;
      const deleted = local.env.transaction(() =>
        some.map(({ table, key }) => {
          return deleteRows(local.env, tableOf(local, table), [Buffer.from(key, 'hex')], () => true);
        }),
      );
      for (const rows of deleted) rows.removeFiles();
    }
  } finally {
    closeSync(lock);
  }
}

/** deleteRows knows a table by identity: those of castore have one object each. */
function tableOf({ env }: LocalStore, name: string) {
  const own = { directory: env.directories, manifest: env.manifests, chunk: env.chunks };
  return own[name as keyof typeof own] ?? env.table(name);
}

function removePaths({ env }: LocalStore, paths: readonly DamagedPath[]): void {
  const infos = env.table('pathinfo');
  env.transaction(() => {
    for (const { hash } of paths) infos.removeSync(Buffer.from(hash, 'hex'));
  });
}
