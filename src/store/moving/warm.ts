import { RatedBlobService } from '../../castore/blob/rated.ts';
import type { BlobService } from '../../castore/blob/service.ts';
import type { CopyOptions } from '../../castore/copy/copier.ts';
import { ServiceTreeCopier } from '../../castore/copy/services.ts';
import { CachedDirectoryService } from '../../castore/directory/cached.ts';
import type { LocalStore } from '../../castore/local/store.ts';
import { eachOf } from '../../util/async/each-of.ts';
import type { Rate } from '../../util/async/rate.ts';
import { isAway } from '../../util/async/transient.ts';
import { StoreError } from '../../util/errors.ts';
import { localBackend } from '../open/backends/local.ts';
import type { PathDescription, PathInfo } from '../path-info/path-info.ts';
import type { Store } from '../services.ts';
import { contentsOf } from './copy.ts';
import { register } from './import.ts';
import { keepingMeanwhile } from './keep-meanwhile.ts';

/** Store paths on their way at once. */
const AT_ONCE = 4;

export interface WarmOptions extends CopyOptions {
  /** Which all contents that are fetched have to keep to; store paths that come as whole NARs do on average. */
  readonly rate?: Rate | undefined;
  /** Called for each store path of which the cache has everything that was to be brought. */
  readonly onWarm: (path: PathDescription) => void;
  /** Called for each one of which it has not; the others are fetched all the same. */
  readonly onFailed: (path: PathDescription, error: StoreError) => void;
}

/**
 * Fetches what a cache lacks of store paths, and names each there when it is whole. All of it is checked. Throws when the far
 * store is away or the cache takes no more: then the others would fail as well.
 */
export async function warm(
  from: Store,
  cache: LocalStore,
  paths: Iterable<PathDescription>,
  options: WarmOptions,
): Promise<void> {
  const to = localBackend(cache);
  const source = {
    blobs: ratedBlobs(from, options),
    // A tree whose directories are there is not asked for.
    directories: new CachedDirectoryService(to.directories, from.directories, 'near'),
  };
  const copier = new ServiceTreeCopier(source, to, options);
  const bring = async (info: PathInfo, signal: AbortSignal) => {
    await copier.copy(info.node, signal);
    await register(to, info, signal);
    return true;
  };
  await keepingMeanwhile(to, () => warmEach(from, paths, options, bring));
}

/** Has something brought of each store path; `bring` says whether there was something to bring. Throws as `warm` does. */
export function warmEach(
  from: Store,
  paths: Iterable<PathDescription>,
  { rate, onWarm, onFailed, signal: stop }: WarmOptions,
  bring: (info: PathInfo, signal: AbortSignal) => Promise<boolean>,
): Promise<void> {
  return eachOf(paths, AT_ONCE, stop, async (path, signal) => {
    try {
      if (await bring(await contents(from, path, rate, signal), signal)) onWarm(path);
    } catch (error) {
      if (!(error instanceof StoreError) || isForAll(error) || signal.aborted) throw error;
      onFailed(path, error);
    }
  });
}

/** The blobs of a store, within the rate. */
export function ratedBlobs({ blobs }: Store, { rate }: WarmOptions): BlobService {
  return rate ? new RatedBlobService(blobs, rate) : blobs;
}

function isForAll(error: StoreError): boolean {
  return isAway(error) || error.code === 'NO_SPACE';
}

/** A path info. From a binary cache the whole path comes with it: then that has to make up for it afterwards. */
async function contents(
  from: Store,
  path: PathDescription,
  rate: Rate | undefined,
  signal: AbortSignal,
): Promise<PathInfo> {
  let came = false;
  const stop = from.paths?.watch(() => {
    came = true;
  });
  try {
    const info = await contentsOf(from, path, signal);
    if (came) await rate?.take(Number(info.narSize), signal);
    return info;
  } finally {
    stop?.();
  }
}
