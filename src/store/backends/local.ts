import { LocalBlobService } from '../../castore/blob/local.ts';
import { LocalDirectoryService } from '../../castore/directory/local.ts';
import { LocalStore } from '../../castore/local/store.ts';
import { UsageError } from '../../util/errors.ts';
import { LocalPathInfoService } from '../path-info/local.ts';
import type { Store } from '../services.ts';
import type { BackendContext } from './backend.ts';
import { restrict } from './backend.ts';

/** `local:///dir`: a local store. */
export function openLocal(url: URL, { use }: BackendContext): Store {
  restrict(url, { path: true });
  const dir = decodeURIComponent(url.pathname);
  if (dir === '' || dir === '/')
    throw new UsageError(`${url.href}: name a directory, as in local:///var/lib/tvix-store`);
  return localBackend(
    use === 'fill' ? LocalStore.openToFill(dir) : LocalStore.open(dir, use === 'write' ? 'store' : undefined),
  );
}

/** The services of an opened local store. */
export function localBackend(local: LocalStore): Store & { local: LocalStore } {
  return {
    blobs: new LocalBlobService(local),
    directories: new LocalDirectoryService(local),
    pathInfos: new LocalPathInfoService(local),
    local,
    close: () => local.close(),
  };
}
