import { LocalBlobService } from '../../../castore/blob/local.ts';
import { LocalDirectoryService } from '../../../castore/directory/local.ts';
import { LocalStore } from '../../../castore/local/store.ts';
import { UsageError } from '../../../util/errors.ts';
import { LocalPathInfoService } from '../../path-info/local.ts';
import type { Store } from '../../services.ts';
import type { BackendContext } from './backend.ts';
import { restrict } from './backend.ts';

/** `local:///dir`: a local store. */
export function openLocal(url: URL, { use }: BackendContext): Store {
  const dir = directoryOf(url);
  if (use === 'fill') return localBackend(LocalStore.openToFill(dir));
  return localBackend(LocalStore.open(dir, use === 'read' ? undefined : 'store', use === 'serve'));
}

/** The directory of a local store's address. */
export function directoryOf(url: URL): string {
  restrict(url, { path: true });
  const dir = decodeURIComponent(url.pathname);
  if (dir === '' || dir === '/')
    throw new UsageError(`${url.href}: name a directory, as in local:///var/lib/tvix-store`);
  return dir;
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
