import type { Patience } from '../../util/async/retry.ts';
import type { CacheAddress } from './address.ts';
import { BinaryCache } from './binary-cache.ts';
import type { CacheFiles } from './files.ts';
import { LocalCacheFiles } from './files.ts';
import type { HttpPatience } from './http-client.ts';
import { HTTP_PATIENCE } from './http-client.ts';
import { HttpCacheFiles } from './http-files.ts';
import { readNetrc } from './netrc.ts';

/** The binary caches at these addresses; nothing is asked of them yet. */
export function openCaches(
  addresses: readonly CacheAddress[],
  { awayMs, firstAnswerMs }: Patience = HTTP_PATIENCE,
): BinaryCache[] {
  const patience = { ...HTTP_PATIENCE, awayMs, firstAnswerMs };
  return addresses.map(
    (address) => new BinaryCache(filesAt(address, patience), address.trust, address.priority),
  );
}

function filesAt({ place, credentials, netrcFile }: CacheAddress, patience: HttpPatience): CacheFiles {
  if (typeof place === 'string') return new LocalCacheFiles(place);
  const known = credentials ? () => credentials : readNetrc(place.hostname, netrcFile);
  return new HttpCacheFiles(place, known, patience);
}
