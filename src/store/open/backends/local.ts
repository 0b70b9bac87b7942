import { pathToFileURL } from 'node:url';
import { LocalBlobService } from '../../../castore/blob/local.ts';
import { LocalDirectoryService } from '../../../castore/directory/local.ts';
import { LocalStore } from '../../../castore/local/store.ts';
import { directoryOf } from '../../../util/url.ts';
import { finishCollection } from '../../keeping/condemned.ts';
import { LocalPathInfoService } from '../../path-info/local.ts';
import type { Store } from '../../services.ts';
import type { Kind, Site } from '../kind.ts';
import { ofStore } from '../kind.ts';

/** The local store in a directory. */
export const LOCAL: Kind = {
  keys: { path: { is: 'path', required: true } },
  address: (given) => pathToFileURL(given.text('path')).href.replace(/^file:/, 'local:'),
  check: (url) => void localDirectory(url),
  makes: ofStore(openLocal),
  isOthers: (use) => use === 'fill',
};

function openLocal({ url, use, openToFill }: Site): Store {
  const dir = localDirectory(url);
  if (use === 'fill') return localBackend(openToFill(dir));
  if (use === 'read') return localBackend(LocalStore.openToRead(dir));
  const local = LocalStore.open(dir, use === 'change' ? undefined : 'store', use === 'serve');
  finishCollection(local.env);
  return localBackend(local);
}

/** The directory of a local store's address. Throws a UsageError where it names none. */
export function localDirectory(url: URL): string {
  return directoryOf(url, 'local:///var/lib/tvix-store');
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
