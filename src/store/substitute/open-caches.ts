import type { LocalStore } from '../../castore/local/store.ts';
import type { Patience } from '../../util/async/retry.ts';
import type { CacheAddress } from './address.ts';
import { BinaryCache } from './binary-cache.ts';
import { CacheCastore } from './castore.ts';
import type { CacheFiles } from './files.ts';
import { LocalCacheFiles } from './files.ts';
import { HTTP_PATIENCE } from './http-client.ts';
import { HttpObjectStore } from './http-objects.ts';
import { KeptNarInfos } from './kept-narinfos.ts';
import { S3CacheFiles } from './s3-files.ts';
import { webFiles } from './web-files.ts';

/** How long castore contents may be away that a cache has had, in milliseconds. */
const CASTORE_AWAY_MS = 3000;

/**
 * The binary caches at these addresses; nothing is asked of them yet. `keepIn`: where the answers are kept of those that
 * are elsewhere.
 */
export function openCaches(
  addresses: readonly CacheAddress[],
  patience: Patience = HTTP_PATIENCE,
  keepIn?: LocalStore,
): BinaryCache[] {
  return addresses.map(({ trust, priority, ...address }) => {
    const files = filesAt(address, patience);
    const isElsewhere = typeof address.place !== 'string';
    const kept = keepIn && isElsewhere ? new KeptNarInfos(keepIn, files.address) : undefined;
    return new BinaryCache(files, { trust, priority, kept, castore: castoreAt(address, patience) });
  });
}

/** The castore contents beside a cache that is on the web: there are NARs, so nobody waits for them for long. */
function castoreAt({ place, ...access }: Access, patience: Patience): CacheCastore | undefined {
  if (!(place instanceof URL)) return undefined;
  const impatient = { ...patience, awayMs: Math.min(patience.awayMs, CASTORE_AWAY_MS) };
  return new CacheCastore(new HttpObjectStore(webFiles({ place, ...access }, impatient)));
}

type Access = Omit<CacheAddress, 'trust' | 'priority'>;

function filesAt({ place, ...access }: Access, patience: Patience): CacheFiles {
  if (typeof place === 'string') return new LocalCacheFiles(place);
  return place instanceof URL ? webFiles({ place, ...access }, patience) : new S3CacheFiles(place, patience);
}
