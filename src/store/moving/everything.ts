import type { LocalStore } from '../../castore/local/store.ts';
import { type StorePath, unnamedPath } from '../../nix/store-path.ts';
import { latin1 } from '../../util/bytes.ts';
import { messageOf } from '../../util/errors.ts';
import { addRoots, RootTable } from '../keeping/roots.ts';
import { wholePathInfo } from '../keeping/whole-path-info.ts';
import { PathInfoTable, parsePathInfoRow } from '../path-info/local.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import { isSame, united } from '../path-info/united.ts';
import type { Store } from '../services.ts';
import { closureOf } from './closure.ts';
import type { CopyPathsOptions } from './copy.ts';
import { copyPaths } from './copy.ts';

/** An opened local store. */
export type OpenLocalStore = Store & { readonly local: LocalStore };

/** How the copying of all is watched; `onPlan` hears how many store paths are to be copied. */
export type EverythingOptions = Omit<CopyPathsOptions, 'onFailed'> & { onPlan?: (paths: number) => void };

/** A store path that a copy lacks, and why. */
export interface Lacking {
  readonly path: string;
  readonly problem: string;
}

export interface EverythingReport {
  /** Store paths that were copied, and those that were there. */
  copied: number;
  present: number;
  /** Roots that the other store has now, and names of those that mean another store path there, and still do. */
  roots: number;
  otherRoots: string[];
  /** Store paths that could not be copied, since they are damaged. */
  readonly damaged: Lacking[];
  /** Store paths that others refer to, and that neither store has. */
  readonly missing: Lacking[];
}

/**
 * Copies all store paths of a local store to another one, with their roots; what is already complete there is not copied.
 * Stops at nothing that is damaged, and tells of it. What is collected meanwhile is left out.
 */
export async function copyEverything(
  from: OpenLocalStore,
  to: OpenLocalStore,
  { onPlan, ...options }: EverythingOptions = {},
): Promise<EverythingReport> {
  const { infos, damaged } = pathInfosOf(from.local);
  const report: EverythingReport = { copied: 0, present: 0, roots: 0, otherRoots: [], damaged, missing: [] };
  const { paths, missing } = await closureOf(infos, async () => undefined, options.signal);
  const lacking: PathInfo[] = [];
  for (const info of paths) {
    const present = await wholePathInfo(to, info.storePath.hash, options.signal);
    const wanted = present ? united(present, info) : info;
    if (present && isSame(present, wanted)) report.present++;
    else lacking.push(wanted);
  }
  onPlan?.(lacking.length);
  await copyPaths(
    from,
    to,
    { paths: lacking, present: [], unsigned: [] },
    {
      ...options,
      onCopied: (path) => {
        report.copied++;
        options.onCopied?.(path);
      },
      onFailed: ({ storePath }, error) => {
        if (!isThere(from.local, storePath)) return;
        damaged.push({ path: storePath.absolute(), problem: error.message });
      },
    },
  );
  const { roots, damaged: lostRoots } = new RootTable(from.local.env).listReadable();
  for (const name of lostRoots)
    damaged.push({ path: `root ${name}`, problem: 'it is damaged: add it again' });
  const added = addRoots(to.local.env, roots);
  report.roots = added.roots;
  report.otherRoots = added.others;
  report.missing.push(
    ...referredTo(
      infos,
      missing.filter((path) => !isThere(to.local, path)),
    ),
  );
  return report;
}

/** Store paths that are missing, each with one that refers to it. */
export function referredTo(infos: readonly PathInfo[], missing: readonly StorePath[]): Lacking[] {
  const wanted = new Set(missing.map(({ hash }) => latin1(hash)));
  const lacking: Lacking[] = [];
  for (const { storePath, references } of wanted.size > 0 ? infos : []) {
    for (const path of references) {
      if (!wanted.delete(latin1(path.hash))) continue;
      lacking.push({ path: path.absolute(), problem: `${storePath.absolute()} refers to it` });
    }
  }
  return lacking;
}

/** All path infos that can be read, as they are at one moment. */
export function pathInfosOf({ env }: LocalStore): { infos: PathInfo[]; damaged: Lacking[] } {
  env.refresh();
  const infos: PathInfo[] = [];
  const damaged: Lacking[] = [];
  for (const { key, value } of new PathInfoTable(env).table.rows()) {
    try {
      infos.push(parsePathInfoRow(value, key));
    } catch (error) {
      damaged.push({ path: unnamedPath(key), problem: messageOf(error) });
    }
  }
  return { infos, damaged };
}

/** Whether a store has a path, as things are now. */
export function isThere({ env }: LocalStore, { hash }: { readonly hash: Uint8Array }): boolean {
  env.refresh();
  return new PathInfoTable(env).table.has(hash);
}
