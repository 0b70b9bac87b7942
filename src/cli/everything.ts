import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { databasePath } from '../castore/local/database.ts';
import { restoreFromFile } from '../store/moving/archive/read.ts';
import { backUpToFile } from '../store/moving/archive/write.ts';
import type { EverythingOptions, EverythingReport, OpenLocalStore } from '../store/moving/everything.ts';
import { copyEverything } from '../store/moving/everything.ts';
import { localDirectory } from '../store/open/address.ts';
import { openStore } from '../store/open/open-store.ts';
import { formatSize } from '../util/bytes.ts';
import { StoreError, UsageError } from '../util/errors.ts';
import { interruptible } from './interruptible.ts';
import { localStoreDirectory } from './local-store.ts';
import { ProgressLine } from './progress.ts';
import type { StoreFlags } from './store-options.ts';
import { addressesOf } from './store-options.ts';

/** The directory of the store that is backed up, or restored. */
export function ownDirectory(flags: StoreFlags): BackupPlace {
  const dir = localStoreDirectory(flags);
  if (dir === undefined) throw new UsageError(`this works on a local store only, not on ${flags.store}`);
  return { path: existsSync(dir) ? realpathSync(dir) : resolve(dir), isFile: false };
}

/** Where a backup is: a directory, which may be given as an address, or a file. */
export interface BackupPlace {
  readonly path: string;
  readonly isFile: boolean;
}

/** Reads where a backup is. One that is to be made becomes a file when its name ends in `.backup`. */
export function backupPlace(text: string, own: string): BackupPlace {
  const local = localDirectory(text);
  if (text === '' || (local === undefined && /^[a-z][a-z+-]*:/.test(text)))
    throw new UsageError(
      `a backup is a directory or a file, not ${JSON.stringify(text)}: tvix-store copy --all goes to other stores`,
    );
  const path = resolve(local ?? text);
  const found = statSync(path, { throwIfNoEntry: false });
  if (path === own || (found && realpathSync(path) === own))
    throw new UsageError(`${text} is the store itself`);
  if (found && !found.isDirectory() && !found.isFile())
    throw new UsageError(`${text} is neither a directory nor a file`);
  return { path, isFile: found ? found.isFile() : path.endsWith('.backup') };
}

/** Throws a UsageError for a directory in which something else lies than a store. */
export function refuseOthers({ path, isFile }: BackupPlace): void {
  if (isFile || !existsSync(path) || existsSync(databasePath(path)) || readdirSync(path).length === 0) return;
  throw new UsageError(`${path} has something in it, and is no store: give a new or empty directory`);
}

/** A direction in which everything is copied. */
interface Ends {
  readonly from: BackupPlace;
  readonly to: BackupPlace;
}

/** Copies all of a store to a backup, or back, and tells how far it is, and how it went. */
export async function copyAll(
  { from, to, verb, json }: Ends & { verb: string; json: boolean },
  flags: StoreFlags,
): Promise<EverythingReport> {
  const report = await interruptible((signal) => copyWatched({ from, to }, flags, signal));
  if (json) print(JSON.stringify(report));
  else {
    for (const { path, problem } of report.damaged) print(`damaged: ${path}\t${problem}`);
    for (const { path, problem } of report.missing) print(`missing: ${path}\t${problem}`);
    for (const name of report.otherRoots)
      print(`root ${name}: it means another store path there, and still does`);
    const lacking =
      report.damaged.length > 0 ? `; ${report.damaged.length} are damaged and were left out` : '';
    print(
      `${verb} ${report.copied} store paths, ${report.present} were there; ${report.roots} roots${lacking}`,
    );
  }
  return report;
}

async function copyWatched(
  { from, to }: Ends,
  flags: StoreFlags,
  signal: AbortSignal,
): Promise<EverythingReport> {
  const progress = { objects: 0, bytes: 0 };
  let [copied, total] = [0, 0];
  const line = new ProgressLine(() => {
    const of = total > 0 ? ` of ${total}` : '';
    return `${copied}${of} store paths, ${progress.objects} objects, ${formatSize(progress.bytes)}`;
  });
  const options: EverythingOptions = {
    signal,
    progress,
    onProgress: () => line.update(),
    onCopied: () => copied++,
    onPlan: (paths) => {
      total = paths;
    },
  };
  try {
    if (!existsSync(from.isFile ? from.path : databasePath(from.path)))
      throw new StoreError('NOT_FOUND', `there is no ${from.isFile ? 'backup' : 'store'} in ${from.path}`);
    if (from.isFile)
      return await within(to.path, flags, 'write', (target) => restoreFromFile(from.path, target, options));
    return await within(from.path, flags, 'read', async (source) =>
      to.isFile
        ? backUpToFile(source, to.path, options)
        : within(to.path, flags, 'write', (target) => copyEverything(source, target, options)),
    );
  } finally {
    line.clear();
  }
}

/** Opens a local store, and closes it behind `work`. */
async function within<T>(
  dir: string,
  flags: StoreFlags,
  use: 'read' | 'write',
  work: (store: OpenLocalStore) => Promise<T>,
): Promise<T> {
  const address = pathToFileURL(dir).href.replace(/^file:/, 'local:');
  const { cacheDir } = addressesOf(flags);
  const addresses = { blobs: address, directories: address, pathInfos: address, cacheDir };
  const store = (await openStore(addresses, use)) as OpenLocalStore;
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
