import { existsSync, readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { databasePath } from '../castore/local/database.ts';
import type { EverythingReport, OpenLocalStore } from '../store/moving/everything.ts';
import { copyEverything } from '../store/moving/everything.ts';
import { localDirectory } from '../store/open/address.ts';
import { openStore } from '../store/open/open-store.ts';
import { formatSize } from '../util/bytes.ts';
import { UsageError } from '../util/errors.ts';
import { interruptible } from './interruptible.ts';
import { localStoreDirectory } from './local-store.ts';
import { ProgressLine } from './progress.ts';
import type { StoreFlags } from './store-options.ts';
import { addressesOf } from './store-options.ts';

/** The directory of the store that is backed up, or restored. */
export function ownDirectory(flags: StoreFlags): string {
  const dir = localStoreDirectory(flags);
  if (dir === undefined) throw new UsageError(`this works on a local store only, not on ${flags.store}`);
  return resolve(dir);
}

/** The directory of a backup, which may be given as an address. */
export function backupDirectory(text: string, own: string): string {
  const dir = resolve(localDirectory(text) ?? text);
  if (dir === own) throw new UsageError(`${text} is the store itself`);
  return dir;
}

/** Throws a UsageError for a directory in which something else lies. */
export function refuseOthers(dir: string): void {
  if (!existsSync(dir) || existsSync(databasePath(dir)) || readdirSync(dir).length === 0) return;
  throw new UsageError(`${dir} has something in it, and is no backup: give a new or empty directory`);
}

/** Copies all of the store in one directory to another one, and tells how far it is, and how it went. */
export async function copyAll(
  { from, to, verb, json }: { from: string; to: string; verb: string; json: boolean },
  flags: StoreFlags,
): Promise<EverythingReport> {
  const report = await interruptible((signal) => copyWatched(from, to, flags, signal));
  if (json) print(JSON.stringify(report));
  else {
    for (const { path, problem } of report.damaged) print(`damaged: ${path}\t${problem}`);
    for (const { path, problem } of report.missing) print(`missing: ${path}\t${problem}`);
    const lacking =
      report.damaged.length > 0 ? `; ${report.damaged.length} are damaged and were left out` : '';
    print(
      `${verb} ${report.copied} store paths, ${report.present} were there; ${report.roots} roots${lacking}`,
    );
  }
  return report;
}

async function copyWatched(
  from: string,
  to: string,
  flags: StoreFlags,
  signal: AbortSignal,
): Promise<EverythingReport> {
  const progress = { objects: 0, bytes: 0 };
  let [copied, total] = [0, 0];
  const line = new ProgressLine(
    () => `${copied} of ${total} store paths, ${progress.objects} objects, ${formatSize(progress.bytes)}`,
  );
  const source = await openLocal(from, flags, 'read');
  try {
    const target = await openLocal(to, flags, 'write');
    try {
      return await copyEverything(source, target, {
        signal,
        progress,
        onProgress: () => line.update(),
        onCopied: () => copied++,
        onPlan: (paths) => {
          total = paths;
        },
      });
    } finally {
      await target.close();
    }
  } finally {
    line.clear();
    await source.close();
  }
}

async function openLocal(dir: string, flags: StoreFlags, use: 'read' | 'write'): Promise<OpenLocalStore> {
  const address = pathToFileURL(dir).href.replace(/^file:/, 'local:');
  const { cacheDir } = addressesOf(flags);
  const addresses = { blobs: address, directories: address, pathInfos: address, cacheDir };
  return (await openStore(addresses, use)) as OpenLocalStore;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
