import { existsSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { STORE_DIR } from '../../../nix/store-path.ts';
import { StoreError, UsageError } from '../../../util/errors.ts';
import { restrict } from '../../../util/url.ts';
import type { Store } from '../../services.ts';
import type { Kind, Site } from '../kind.ts';
import { ofStore } from '../kind.ts';

/** The store of the Nix on this machine: what it has is read from its files, and kept nowhere. */
export const NIX_STORE: Kind = {
  keys: { path: { is: 'path', required: true } },
  address: (given) => pathToFileURL(given.text('path')).href.replace(/^file:/, 'nix-store:'),
  check: (url) => void rootOf(url),
  makes: ofStore(openNixStore),
};

async function openNixStore({ url }: Site): Promise<Store> {
  const root = rootOf(url);
  // Nix would make one there.
  if (!existsSync(`${root}${STORE_DIR}`))
    throw new StoreError('NOT_FOUND', `there is no ${root}${STORE_DIR}`);
  const { NixClient } = await import('../../nix-store/client.ts');
  const { NixStoreBlobs, NixStoreDirectories, NixStorePathInfos } = await import(
    '../../nix-store/services.ts'
  );
  const { TreeIndex } = await import('../../nix-store/tree-index.ts');
  const nix = new NixClient(root);
  const index = new TreeIndex(`${root}${STORE_DIR}`);
  return {
    blobs: new NixStoreBlobs(index),
    directories: new NixStoreDirectories(index),
    pathInfos: new NixStorePathInfos(nix, index),
    close: () => nix.close(),
  };
}

/** The directory below which the store lies, `''` for that of the machine. Throws a UsageError. */
function rootOf(url: URL): string {
  restrict(url, { path: true });
  const path = decodeURIComponent(url.pathname).replace(/\/+$/, '');
  if (!path.endsWith(STORE_DIR))
    throw new UsageError(
      `${url.href}: name a ${STORE_DIR}, as in nix-store://${STORE_DIR} or nix-store:///root${STORE_DIR}`,
    );
  return path.slice(0, -STORE_DIR.length);
}
