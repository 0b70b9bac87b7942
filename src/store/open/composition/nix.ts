import { LruPathInfoService } from '../../path-info/lru.ts';
import { NixCachePathInfoService } from '../../path-info/nix-cache.ts';
import type { PathInfoService } from '../../path-info/service.ts';
import type { Contents } from '../../services.ts';
import { parseCacheAddress, parseCaches } from '../../substitute/address.ts';
import { Substituter } from '../../substitute/substituter.ts';

/** Path infos remembered of those that were taken; whoever wants them kept puts a cache in front. */
const REMEMBERED = 10_000;

/** Path infos of a binary cache, whose contents go into the services that are given. */
export function openNixCache(
  baseUrl: string,
  keys: readonly string[] | undefined,
  contents: Contents,
): { pathInfos: PathInfoService; close: () => Promise<void> } {
  const separator = baseUrl.includes('?') ? '&' : '?';
  const trusted = keys ? `${separator}trusted-public-keys=${encodeURIComponent(keys.join(' '))}` : '';
  const address = baseUrl.replace(/^(?=https?:|file:)/, 'nix+') + trusted;
  const caches = parseCaches(parseCacheAddress(address, 'base_url'));
  const own = new LruPathInfoService(REMEMBERED);
  const { blobs, directories } = contents;
  const substituter = new Substituter(caches, { blobs, directories, pathInfos: own });
  return {
    pathInfos: new NixCachePathInfoService(own, substituter, caches[0]!.address),
    close: () => substituter.close(),
  };
}
