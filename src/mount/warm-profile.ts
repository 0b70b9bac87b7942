import type { LocalStore } from '../castore/local/store.ts';
import { ratedBlobs, type WarmOptions, warmEach } from '../store/moving/warm.ts';
import type { PathDescription, PathInfo } from '../store/path-info/path-info.ts';
import type { Store } from '../store/services.ts';
import { StoreError } from '../util/errors.ts';
import { Fetcher } from './fetch/fetcher.ts';
import { Keeper } from './fetch/keeper.ts';

/**
 * Fetches what the profiles of store paths name, as a mount with `--prefetch` does. `name`: of the store, for people. Of a path
 * without a profile nothing is fetched, and nothing is told. Throws as `warm` does.
 */
export async function warmByProfile(
  from: Store,
  name: string,
  cache: LocalStore,
  paths: Iterable<PathDescription>,
  options: WarmOptions,
): Promise<void> {
  const recipient = {
    deliver() {
      if (options.progress) Object.assign(options.progress, keeper.fetched);
      options.onProgress?.();
    },
    settled: () => {},
    proven: () => {},
    revoke: () => {},
  };
  const keeper: Keeper = new Keeper(cache, recipient, name);
  const fetcher = new Fetcher({ ...from, blobs: ratedBlobs(from, options) }, keeper, { verifyWhole: false });
  const bring = async (info: PathInfo, signal: AbortSignal) => {
    if (!(await fetcher.replay(info, signal))) return false;
    // What comes last is in the cache when all before is.
    await keeper.pathInfo(info);
    if (keeper.lacksRoom) throw new StoreError('NO_SPACE', `no space left for the cache in ${cache.env.dir}`);
    return true;
  };
  try {
    await warmEach(from, paths, options, bring);
  } finally {
    await fetcher.close();
    await keeper.close();
  }
}
