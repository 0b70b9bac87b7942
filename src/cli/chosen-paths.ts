import { Option } from 'commander';
import type { NamedPath } from '../store/named-path.ts';
import { parseStorePath } from '../store/named-path.ts';
import type { PathInfo } from '../store/path-info/path-info.ts';
import { findPathInfo } from '../store/resolve.ts';
import type { Store } from '../store/services.ts';
import { UsageError } from '../util/errors.ts';

/** The store paths that a command is to work on. */
export type Chosen = readonly NamedPath[] | 'all';

export function allOption(): Option {
  return new Option('--all', 'every store path in the store');
}

/** Reads STORE_PATH arguments, in place of which `--all` may stand. Throws a UsageError. */
export function choosePaths(names: readonly string[], all: boolean): Chosen {
  if (all && names.length > 0) throw new UsageError('give either STORE_PATH arguments or --all, not both');
  if (!all && names.length === 0) {
    throw new UsageError('give STORE_PATH arguments, or --all for every store path in the store');
  }
  return all ? 'all' : names.map(parseStorePath);
}

/** The path infos of the store paths chosen. Throws NOT_FOUND. */
export async function* chosenPaths(store: Store, chosen: Chosen): AsyncGenerator<PathInfo> {
  if (chosen === 'all') yield* store.pathInfos.list();
  else for (const path of chosen) yield await findPathInfo(store, path);
}
