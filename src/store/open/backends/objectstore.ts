import { DEFAULT_CUTTER } from '../../../castore/blob/cutter-options.ts';
import { LocalDirectoryService } from '../../../castore/directory/local.ts';
import type { ObjectStore } from '../../../castore/objects/object-store.ts';
import { UsageError } from '../../../util/errors.ts';
import { authorityIn } from '../../../util/system/authorities.ts';
import { directoryOf, restrict, takeParameter } from '../../../util/url.ts';
import { LocalPathInfoService } from '../../path-info/local.ts';
import { rootsIn } from '../../path-info/roots.ts';
import type { Store } from '../../services.ts';
import { credentialsOf, webBase } from '../../substitute/address.ts';
import type { Given } from '../keys.ts';
import type { Kind, Site } from '../kind.ts';
import { ofStore } from '../kind.ts';
import { s3Location } from './s3-location.ts';

/** A bucket, or its layout elsewhere. */
export const OBJECT_STORE: Kind = {
  keys: {
    object_store_url: { is: 'text', required: true },
    object_store_options: { is: 'options' },
    avg_chunk_size: { is: 'number' },
  },
  address: addressOf,
  check: (url) => void OBJECTS[url.protocol]!(url),
  makes: ofStore(openObjectStore),
  isOthers: () => true,
  isUnique: (url) => url.protocol === 'objectstore+memory:',
};

function addressOf(given: Given): string {
  const size = given.number('avg_chunk_size') ?? DEFAULT_CUTTER.average;
  if (size !== DEFAULT_CUTTER.average)
    throw new UsageError(`avg_chunk_size can only be ${DEFAULT_CUTTER.average}, which all stores share`);
  const url = given.text('object_store_url');
  const options = Object.entries(given.options('object_store_options') ?? {});
  const query = options.map((pair) => pair.map(encodeURIComponent).join('=')).join('&');
  return `objectstore+${url}${query && `${url.includes('?') ? '&' : '?'}${query}`}`;
}

async function openObjectStore(site: Site): Promise<Store> {
  const objects = await OBJECTS[site.url.protocol]!(site.url)(site);
  try {
    return await storeOver(objects, site);
  } catch (error) {
    await objects.close();
    throw error;
  }
}

/** Reads an address, and gives what opens the objects that are there. */
const OBJECTS: Record<string, (url: URL) => (site: Site) => Promise<ObjectStore>> = {
  'objectstore+s3:': (url) => {
    const location = s3Location(url);
    return async ({ patience }) => {
      // Loaded when they are needed, all of them: a mount of a local store does without.
      const { S3ObjectStore } = await import('../../../castore/objects/s3.ts');
      return S3ObjectStore.open(location, patience);
    };
  },
  'objectstore+file:': (url) => {
    const dir = directoryOf(url, 'objectstore+file:///var/lib/tvix-bucket');
    return async ({ use }) => {
      const { FileObjectStore } = await import('../../../castore/objects/file.ts');
      return FileObjectStore.open(dir, use !== 'read' && use !== 'change');
    };
  },
  'objectstore+http:': overHttp,
  'objectstore+https:': overHttp,
  'objectstore+memory:': (url) => {
    restrict(url, { path: url.pathname === '/' });
    return async () => {
      const { MemoryObjectStore } = await import('../../../castore/objects/memory.ts');
      return new MemoryObjectStore();
    };
  },
};

function overHttp(url: URL): (site: Site) => Promise<ObjectStore> {
  const bare = new URL(url);
  const ca = authorityIn(takeParameter(bare, 'ca'));
  const netrcFile = takeParameter(bare, 'netrc-file');
  restrict(bare, { host: true, path: true });
  const place = { place: webBase(bare), credentials: credentialsOf(url), netrcFile, ca };
  return async ({ patience }) => {
    const { webFiles } = await import('../../substitute/web-files.ts');
    const { HttpObjectStore } = await import('../../substitute/http-objects.ts');
    return new HttpObjectStore(webFiles(place, patience));
  };
}

/** The three services over objects; the first request is made here, so that what is wrong shows at once. */
export async function storeOver(
  objects: ObjectStore,
  site: Pick<Site, 'cache'> & Partial<Pick<Site, 'use'>>,
): Promise<Store> {
  // A server will need it: what is wrong with it is to show at once.
  if (site.use === 'serve') site.cache();
  const { ObjectStorePathInfoService } = await import('../../path-info/object-store.ts');
  const { ObjectStoreBlobService } = await import('../../../castore/blob/object-store.ts');
  const { ObjectStoreDirectoryService } = await import('../../../castore/directory/object-store.ts');
  const { Reliance } = await import('../../../castore/objects/reliance.ts');
  const { BucketKeeper } = await import('../../keeping/bucket/keeper.ts');
  const { closureCache } = await import('../../../castore/directory/closure-cache.ts');
  const near = () => ({
    directories: new LocalDirectoryService(site.cache()),
    roots: () => rootsIn(new LocalPathInfoService(site.cache())),
  });
  const reliance = new Reliance(objects);
  const blobs = new ObjectStoreBlobService(objects, reliance);
  const directories = new ObjectStoreDirectoryService(objects, reliance);
  const isWritable = site.use !== undefined && site.use !== 'read';
  const keeper = new BucketKeeper(blobs, directories);
  return {
    blobs,
    directories: closureCache(near, directories),
    pathInfos: await ObjectStorePathInfoService.open(objects, reliance, {
      isWritable,
      makes: site.use === 'write' || site.use === 'serve',
    }),
    bucket: { objects, keep: (root, signal) => keeper.keep(root, signal) },
    far: objects.isFar,
    close: () => objects.close(),
  };
}
