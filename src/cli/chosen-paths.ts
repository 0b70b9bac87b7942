import { STORE_DIR } from '../nix/store-path.ts';
import type { PathInfo } from '../store/path-info/path-info.ts';
import { findPathInfo } from '../store/resolve.ts';
import type { Store } from '../store/services.ts';
import { UsageError } from '../util/errors.ts';

/** The store paths that a command is to work on: those named, or with `--all` all of them. */
export async function* chosenPaths(
  store: Store,
  names: readonly string[],
  all: boolean,
): AsyncGenerator<PathInfo> {
  if (all === names.length > 0)
    throw new UsageError('name store paths, or give --all for every one in the store');
  if (all) yield* store.pathInfos.list();
  for (const name of names) {
    const base = name.startsWith(`${STORE_DIR}/`) ? name.slice(STORE_DIR.length + 1) : name;
    yield await findPathInfo(store, base.replace(/\/+$/, ''));
  }
}
