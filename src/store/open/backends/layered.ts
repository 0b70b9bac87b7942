import type { ServiceName, Services } from '../../services.ts';
import type { Kind, Part, Site } from '../kind.ts';

type Layered<S> = S & { settle?(): Promise<void> };

/** A far store, and near it copies of what was read; what is put goes far. */
export const CACHE: Kind = layered('far');

/** A near store that looks into a far one for what it lacks; what is put goes near. */
export const COMBINED: Kind = layered('near');

function layered(puts: 'near' | 'far'): Kind {
  const layer = async <K extends ServiceName>(
    site: Site,
    service: K,
    make: (near: Services[K], far: Services[K]) => Layered<Services[K]>,
  ): Promise<Part<Services[K]>> => {
    const near = await site.part('near', service);
    const far = await site.part('far', service);
    const made = make(near.service, far.service);
    site.onClose(async () => made.settle?.());
    return { service: made, paths: far.paths, far: (puts === 'near' ? near : far).far };
  };
  // Loaded when they are needed: most stores do without.
  return {
    keys: {
      near: { is: 'service', required: true, also: 'local', use: puts === 'near' ? 'write' : 'fill' },
      far: { is: 'service', required: true, also: 'remote' },
    },
    makes: {
      blobs: async (site) => {
        const { CachedBlobService } = await import('../../../castore/blob/cached.ts');
        return layer(site, 'blobs', (near, far) => new CachedBlobService(near, far, puts));
      },
      directories: async (site) => {
        const { CachedDirectoryService } = await import('../../../castore/directory/cached.ts');
        return layer(site, 'directories', (near, far) => new CachedDirectoryService(near, far, puts));
      },
      pathInfos: async (site) => {
        const { CachedPathInfoService } = await import('../../path-info/cached.ts');
        return layer(site, 'pathInfos', (near, far) => new CachedPathInfoService(near, far, puts));
      },
    },
    puts,
  };
}
