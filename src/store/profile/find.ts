import { messageOf } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import type { Store } from '../services.ts';
import { readProfile } from './objects.ts';
import type { Profile } from './profile.ts';
import type { ProfileTable } from './table.ts';

/** The profile of a store path: that of the cache, or of the bucket that the path comes from, unless it is of another tree. */
export async function findProfile(
  table: ProfileTable,
  { bucket }: Pick<Store, 'bucket'>,
  { storePath, node }: PathInfo,
  signal?: AbortSignal,
): Promise<Profile | undefined> {
  if (node.kind !== 'directory') return undefined;
  const kept = table.get(node.digest.bytes);
  if (kept || !bucket) return kept;
  try {
    const profile = await readProfile(bucket.objects, storePath.hash, signal);
    return profile?.root.equals(node.digest) ? profile : undefined;
  } catch (error) {
    signal?.throwIfAborted();
    log.debug('cannot get a profile', { path: String(storePath), error: messageOf(error) });
    return undefined;
  }
}
