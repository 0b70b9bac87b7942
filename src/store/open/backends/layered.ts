import { UsageError } from '../../../util/errors.ts';
import type { Store } from '../../services.ts';
import type { BackendContext } from './backend.ts';
import { restrict, takeParameter } from './backend.ts';

/** `cache://?near=…&far=…`: a store elsewhere, and copies of it near; what is put goes far. */
export function openCache(url: URL, context: BackendContext): Promise<Store> {
  return openLayered(url, context, 'far');
}

/** `combined://?near=…&far=…`: a store that looks into another for what it lacks; what is put goes near. */
export function openCombined(url: URL, context: BackendContext): Promise<Store> {
  return openLayered(url, context, 'near');
}

async function openLayered(url: URL, context: BackendContext, puts: 'near' | 'far'): Promise<Store> {
  // Loaded when it is needed: most stores do without.
  const { CachedBlobService } = await import('../../../castore/blob/cached.ts');
  const { CachedDirectoryService } = await import('../../../castore/directory/cached.ts');
  const { CachedPathInfoService } = await import('../../path-info/cached.ts');
  restrict(url, { parameters: ['near', 'far'] });
  const near = await context.open(address(url, 'near'), puts === 'far' ? 'fill' : 'write');
  const far = await context.open(address(url, 'far'), context.use);
  const blobs = new CachedBlobService(near.blobs, far.blobs, puts);
  const pathInfos = new CachedPathInfoService(near.pathInfos, far.pathInfos, puts);
  return {
    blobs,
    directories: new CachedDirectoryService(near.directories, far.directories, puts),
    pathInfos,
    ...(far.paths ? { paths: far.paths } : {}),
    far: (puts === 'far' ? far.far : near.far) ?? false,
    async close() {
      await blobs.settle();
      await pathInfos.settle();
    },
  };
}

function address(url: URL, parameter: string): string {
  const found = takeParameter(url, parameter);
  if (found) return found;
  throw new UsageError(
    `${url.href}: ${parameter} is missing; want ${url.protocol}//?near=URL&far=URL, with %26 for each & within`,
  );
}
