import { localDirectory } from '../store/open/address.ts';
import { openStore } from '../store/open/open-store.ts';
import type { Store } from '../store/services.ts';
import { UsageError } from '../util/errors.ts';
import type { StoreFlags } from './store-options.ts';
import { addressesOf, storeName } from './store-options.ts';

/** Opens the store of a command that works on local stores alone, and closes it behind `work`. */
export async function withLocalStore<T>(
  flags: StoreFlags,
  work: (local: NonNullable<Store['local']>, store: Store) => Promise<T> | T,
  use: 'read' | 'change' = 'read',
): Promise<T> {
  const refusal = `this works on a local store only, not on ${storeName(flags)}`;
  // Before it is opened: a bucket would first want to be reached.
  if (!flags.storeComposition && !/^(local|lmdb):/.test(flags.store)) throw new UsageError(refusal);
  const store = await openStore(addressesOf(flags), use);
  try {
    if (!store.local) throw new UsageError(refusal);
    return await work(store.local, store);
  } finally {
    await store.close();
  }
}

/** The directory of the store that the flags name, when it is one local store. */
export function localStoreDirectory(flags: StoreFlags): string | undefined {
  const { blobs, directories, pathInfos, composition } = addressesOf(flags);
  const isOne = composition === undefined && blobs === directories && blobs === pathInfos;
  return isOne ? localDirectory(blobs) : undefined;
}
