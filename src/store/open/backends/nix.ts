import { NixCachePathInfoService } from '../../path-info/nix-cache.ts';
import type { Store } from '../../services.ts';
import type { BackendContext } from './backend.ts';
import { localBackend } from './local.ts';

/**
 * `nix+https://cache`, `nix+http://…` and `nix+file:///dir`: store paths of binary caches. What is asked for is
 * taken into this machine's cache.
 */
export async function openNix(url: URL, context: BackendContext): Promise<Store> {
  // Loaded when it is needed, as every client is.
  const { parseCaches } = await import('../../substitute/address.ts');
  const { Substituter } = await import('../../substitute/substituter.ts');
  const caches = parseCaches(url);
  const cache = localBackend(context.cache());
  const substituter = new Substituter(caches, cache);
  return {
    blobs: cache.blobs,
    directories: cache.directories,
    pathInfos: new NixCachePathInfoService(cache.pathInfos, substituter, caches[0]!.address),
    paths: substituter,
    far: true,
    close: () => substituter.close(),
  };
}
