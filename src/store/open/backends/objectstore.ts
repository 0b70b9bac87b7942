import type { Digest } from '../../../castore/digest.ts';
import { LocalDirectoryService } from '../../../castore/directory/local.ts';
import type { ObjectStore } from '../../../castore/objects/object-store.ts';
import { UsageError } from '../../../util/errors.ts';
import { LocalPathInfoService } from '../../path-info/local.ts';
import type { PathInfoService } from '../../path-info/service.ts';
import type { Store } from '../../services.ts';
import type { BackendContext } from './backend.ts';
import { restrict } from './backend.ts';
import { s3Location } from './s3-location.ts';

/** `objectstore+s3://bucket/prefix`, `objectstore+file:///dir` and `objectstore+memory:///`. */
export async function openObjectStore(url: URL, context: BackendContext): Promise<Store> {
  const objects = await OPEN[url.protocol]!(url, context);
  try {
    return await storeOver(objects, context);
  } catch (error) {
    await objects.close();
    throw error;
  }
}

// Loaded when they are needed: a mount of a local store does without.
const OPEN: Record<string, (url: URL, context: BackendContext) => Promise<ObjectStore>> = {
  'objectstore+s3:': async (url) => {
    const location = s3Location(url);
    const { S3ObjectStore } = await import('../../../castore/objects/s3.ts');
    return S3ObjectStore.open(location);
  },
  'objectstore+file:': async (url, { use }) => {
    restrict(url, { path: true });
    const dir = decodeURIComponent(url.pathname);
    if (dir === '' || dir === '/')
      throw new UsageError(`${url.href}: name a directory, as in objectstore+file:///var/lib/tvix-bucket`);
    const { FileObjectStore } = await import('../../../castore/objects/file.ts');
    return FileObjectStore.open(dir, use !== 'read');
  },
  'objectstore+memory:': async (url) => {
    restrict(url, { path: url.pathname === '/' });
    const { MemoryObjectStore } = await import('../../../castore/objects/memory.ts');
    return new MemoryObjectStore();
  },
};

/** The three services over objects; the first request is made here, so that what is wrong shows at once. */
export async function storeOver(
  objects: ObjectStore,
  context: Pick<BackendContext, 'cache'>,
): Promise<Store> {
  const { ObjectStorePathInfoService } = await import('../../path-info/object-store.ts');
  const { ObjectStoreBlobService } = await import('../../../castore/blob/object-store.ts');
  const { ObjectStoreDirectoryService } = await import('../../../castore/directory/object-store.ts');
  const { closureCache } = await import('../../../castore/directory/closure-cache.ts');
  const near = () => ({
    directories: new LocalDirectoryService(context.cache()),
    roots: () => rootsIn(new LocalPathInfoService(context.cache())),
  });
  return {
    blobs: new ObjectStoreBlobService(objects),
    directories: closureCache(near, new ObjectStoreDirectoryService(objects)),
    pathInfos: await ObjectStorePathInfoService.open(objects),
    far: objects.isFar,
    close: () => objects.close(),
  };
}

/** Roots of the trees whose path infos are there. */
async function* rootsIn(pathInfos: PathInfoService): AsyncGenerator<Digest> {
  for await (const { node } of pathInfos.list()) if (node.kind === 'directory') yield node.digest;
}
