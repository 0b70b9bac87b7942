import type { LocalStore } from '../../../castore/local/store.ts';
import { UsageError } from '../../../util/errors.ts';
import type { PathInfoService } from '../../path-info/service.ts';
import type { Contents, Services, Store } from '../../services.ts';
import { parseCaches } from '../../substitute/address.ts';
import type { BinaryCache } from '../../substitute/binary-cache.ts';
import type { Kind, Part, Site } from '../kind.ts';
import { ALL_SERVICES, ofStore } from '../kind.ts';
import { localBackend } from './local.ts';
import { MIRRORS, mirroredBlobs, mirroredDirectories } from './mirrored.ts';

/** Path infos remembered of those that were taken; whoever wants them kept puts a cache in front. */
const REMEMBERED = 10_000;
const WHOLE = ofStore(openWhole);

/**
 * Store paths of binary caches. What is asked for is taken into this machine's cache; or its contents into
 * services that are named, and then there are only path infos here.
 */
export const NIX: Kind = {
  keys: {
    base_url: { is: 'text', required: true },
    blob_service: { is: 'service', service: 'blobs', use: 'write' },
    directory_service: { is: 'service', service: 'directories', use: 'write' },
    public_keys: { is: 'texts' },
    mirrors: MIRRORS,
  },
  address(given) {
    const url = given.text('base_url').replace(/^(?=https?:|file:)/, 'nix+');
    const keys = given.texts('public_keys');
    if (!keys) return url;
    return `${url}${url.includes('?') ? '&' : '?'}trusted-public-keys=${encodeURIComponent(keys.join(' '))}`;
  },
  check(url, given) {
    parseCaches(url);
    if (given.has('blob_service') !== given.has('directory_service'))
      throw new UsageError('blob_service and directory_service go together');
  },
  isOthers: () => true,
  has: (given) => (given.has('blob_service') ? ['pathInfos'] : ALL_SERVICES),
  makes: {
    ...WHOLE,
    pathInfos: (site) => (site.given.has('blob_service') ? pathInfosAlone(site) : WHOLE.pathInfos(site)),
  },
};

async function openWhole(site: Site): Promise<Store> {
  const cache = localBackend(site.cache());
  const { pathInfos, substituter } = await substitute(site, cache, cache.local);
  return {
    blobs: cache.blobs,
    directories: cache.directories,
    pathInfos,
    paths: substituter,
    signedRoots: substituter.signedRoots,
    far: true,
    close: () => substituter.close(),
  };
}

async function pathInfosAlone(site: Site): Promise<Part<PathInfoService>> {
  const { service: blobs } = await site.part('blob_service', 'blobs');
  const { service: directories } = await site.part('directory_service', 'directories');
  const { LruPathInfoService } = await import('../../path-info/lru.ts');
  const target = { blobs, directories, pathInfos: new LruPathInfoService(REMEMBERED) };
  const { pathInfos, substituter } = await substitute(site, target);
  site.onClose(() => substituter.close());
  return { service: pathInfos, far: true };
}

/** `local`: what the target is in, if that is this machine's cache. */
async function substitute(site: Site, target: Services, local?: LocalStore) {
  const { url, patience, use, trustedKeys, believedCopies } = site;
  // Loaded when it is needed: it brings a client of its own.
  const { openCaches } = await import('../../substitute/open-caches.ts');
  const { Substituter } = await import('../../substitute/substituter.ts');
  const { KeptTrees } = await import('../../substitute/kept-trees.ts');
  const { NixCachePathInfoService } = await import('../../path-info/nix-cache.ts');
  // Whoever runs a command wants to know what there is now.
  const caches = openCaches(parseCaches(url, trustedKeys), patience, use === 'serve' ? local : undefined);
  const substituter = new Substituter(caches, target, {
    kept: local && new KeptTrees(local),
    rootKeys: trustedKeys,
    mirrored: await mirrored(site, caches),
  });
  const own = await believedCopies(target.pathInfos);
  return {
    substituter,
    pathInfos: new NixCachePathInfoService(own, substituter, caches[0]!.address),
  };
}

/** What caches have by castore, and mirrors before it, if some are named. */
async function mirrored(site: Site, caches: readonly BinaryCache[]): Promise<Contents | undefined> {
  if (site.parts('mirrors', 'blobs').length === 0) return undefined;
  const { castoreOf } = await import('../../substitute/castore.ts');
  const { blobs, directories } = castoreOf(caches.flatMap(({ castore }) => castore ?? []));
  return {
    blobs: await mirroredBlobs(site, blobs),
    directories: await mirroredDirectories(site, directories),
  };
}
