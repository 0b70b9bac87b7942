import type { LocalStore } from '../castore/local/store.ts';
import { openStore } from '../store/open/open-store.ts';
import type { OpenedStore } from '../store/services.ts';
import { UsageError } from '../util/errors.ts';
import { localStoreDirectory } from './local-store.ts';
import type { ReadFlags } from './store-options.ts';
import { addressesOf, storeName } from './store-options.ts';

/** Opens a store that is elsewhere, with the cache in which its contents are kept here, and closes them behind `work`. */
export async function withFarStore<T>(
  flags: ReadFlags,
  work: (store: OpenedStore, cache: LocalStore) => Promise<T>,
): Promise<T> {
  const onThisMachine = new UsageError(
    `this works on the cache of a store that is elsewhere: name one by --store; ${storeName(flags)} is on this machine`,
  );
  // Before it is opened.
  if (localStoreDirectory(flags) !== undefined) throw onThisMachine;
  const store = await openStore(addressesOf(flags), 'read');
  try {
    if (store.local) throw onThisMachine;
    const cache = store.records();
    if (cache.env.kind !== 'cache')
      throw new UsageError(`${cache.env.dir} is a store, not a cache: name another directory by --cache`);
    return await work(store, cache);
  } finally {
    await store.close();
  }
}
