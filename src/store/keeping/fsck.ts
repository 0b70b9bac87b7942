import { closeSync, existsSync, renameSync, statSync } from 'node:fs';
import { Digest } from '../../castore/digest.ts';
import { checkDatabase, emptied, hasChunkFiles, isThere } from '../../castore/local/check-database.ts';
import { deleteRows, lockForDeleting } from '../../castore/local/collector.ts';
import { databasePath } from '../../castore/local/database.ts';
import { replaceDatabase, withDatabaseAlone } from '../../castore/local/exclusive.ts';
import { makeRoomToDelete, rowsAtOnce } from '../../castore/local/reserve.ts';
import { LocalStore } from '../../castore/local/store.ts';
import { ROTTEN } from '../../castore/local/verify.ts';
import { messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { localBackend } from '../open/backends/local.ts';
import type { Services } from '../services.ts';
import type { CheckProgress } from './check/record.ts';
import { loadCheck, saveCheck, summaryOf } from './check/record.ts';
import type { CheckReport, DamagedPath, Pace } from './check/report.ts';
import { restorePath } from './check/restore.ts';
import type { DatabaseFaults, OnRows } from './check/scan.ts';
import { copyGood, findFaults, verify } from './check/scan.ts';
import { finishCollection } from './condemned.ts';

/** Rows taken out in one transaction. */
const BATCH = 256;
const NO_FAULTS: DatabaseFaults = { gaps: [], structure: [] };

/**
 * Checks a local store: every row against its key or checksum, every chunk file, and that no path lacks anything. `rate`
 * is how many bytes it reads in a second.
 */
export async function checkStore(
  dir: string,
  onRows: OnRows = () => {},
  rate?: number,
): Promise<CheckReport> {
  requireStore(dir);
  const path = databasePath(dir);
  const begun = Date.now();
  const { gaps, structure } = isThere(path) ? await findFaults(dir, path, onRows) : NO_FAULTS;
  const report = await verify(dir, gaps, { structure, rate }, onRows);
  if (report.objects === 0 && hasChunkFiles(dir)) throw emptied(dir);
  await remember(dir, report);
  saveCheck(dir, { last: summaryOf(report, begun) });
  return report;
}

/**
 * Checks a part of a local store: it begins where the last one of its kind has stopped, and goes on for as long as its
 * pace lets it. What was found on the way is told again, until it is mended. The database as such is read only where rows
 * are.
 */
export async function checkOn(
  dir: string,
  pace: Pace,
  onRows: OnRows = () => {},
): Promise<CheckReport & { readonly since: CheckProgress }> {
  requireStore(dir);
  checkDatabase(dir);
  const { last, running } = loadCheck(dir);
  const before = running ?? { begun: Date.now(), objects: 0, bytes: 0, damages: [] };
  const task = { structure: [], from: before.next, known: before.damages, ...pace };
  const report = await verify(dir, [], task, onRows);
  await remember(dir, report);
  const since: CheckProgress = {
    begun: before.begun,
    objects: before.objects + report.objects,
    bytes: before.bytes + report.bytes,
    damages: report.damages,
    next: report.next,
  };
  saveCheck(
    dir,
    report.next ? { last, running: since } : { last: summaryOf({ ...report, ...since }, since.begun) },
  );
  return { ...report, since };
}

function requireStore(dir: string): void {
  if (existsSync(databasePath(dir)) || hasChunkFiles(dir)) return;
  throw new StoreError('FAILED_PRECONDITION', `there is no store in ${dir}`);
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
  const begun = Date.now();
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
    saveCheck(dir, { last: { ...summaryOf(found, begun), isRepaired: true } });
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
  const why = `the database in ${dir} has to be rebuilt (${structure[0]})`;
  const path = databasePath(dir);
  await withDatabaseAlone(dir, why, async (old) => {
    await replaceDatabase(dir, statSync(path).size, why, (fresh) => copyGood(dir, old, fresh));
    // What could not be read is left for others to look at.
    renameSync(old, `${path}.damaged`);
  });
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
  const { directories, manifests, outboards, chunks } = env;
  const own = { directory: directories, manifest: manifests, outboard: outboards, chunk: chunks };
  return own[name as keyof typeof own] ?? env.table(name);
}

function removePaths({ env }: LocalStore, paths: readonly DamagedPath[]): void {
  const infos = env.table('pathinfo');
  env.transaction(() => {
    for (const { hash } of paths) infos.removeSync(Buffer.from(hash, 'hex'));
  });
}
