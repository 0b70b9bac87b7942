import { StoreError } from '../../util/errors.ts';
import type { PathInfoService } from '../path-info/service.ts';
import type { ServiceName, Services, Store } from '../services.ts';
import type { Description } from './description.ts';
import { putsTo } from './description.ts';
import type { Part } from './kind.ts';

/** A description for each service of a store. */
export type Roots = Readonly<Record<ServiceName, Description>>;

/** The store of three services. What holds for all three of them holds for it. */
export function assemble(roots: Roots, parts: { readonly [K in ServiceName]: Part<Services[K]> }): Store {
  const { blobs, directories, pathInfos } = parts;
  const common = <K extends 'local' | 'bucket' | 'paths' | 'signedRoots'>(name: K) =>
    blobs[name] === pathInfos[name] && directories[name] === pathInfos[name] ? pathInfos[name] : undefined;
  return {
    blobs: blobs.service,
    directories: directories.service,
    pathInfos: coherent(roots, pathInfos.service),
    local: common('local'),
    bucket: common('bucket'),
    paths: common('paths'),
    signedRoots: common('signedRoots'),
    far: pathInfos.far ?? false,
    close: async () => {},
  };
}

/**
 * A path info must not be put where its contents are not: where some are put near and some far (`combined` beside
 * `cache`), there is no place for it.
 */
function coherent(roots: Roots, pathInfos: PathInfoService): PathInfoService {
  const ways = new Set(Object.values(roots).map(putsTo));
  if (!ways.has('near') || !ways.has('far')) return pathInfos;
  return {
    get: (hash, signal) => pathInfos.get(hash, signal),
    describe: (hash, signal) => pathInfos.describe(hash, signal),
    list: (signal) => pathInfos.list(signal),
    put: () =>
      Promise.reject(
        new StoreError(
          'FAILED_PRECONDITION',
          'nothing can be put into this store: a combined service would put it near, a cache far; ' +
            'take one of the two for blobs, directories and path infos alike',
        ),
      ),
  };
}
