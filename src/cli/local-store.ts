import type { Store } from '../store/services.ts';
import { openStore } from '../store/store.ts';
import { UsageError } from '../util/errors.ts';
import type { StoreFlags } from './store-options.ts';
import { addressesOf } from './store-options.ts';

/** Opens the store of a command that works on local stores alone, and closes it behind `work`. */
export async function withLocalStore<T>(
  flags: StoreFlags,
  work: (local: NonNullable<Store['local']>) => Promise<T> | T,
): Promise<T> {
  const store = await openStore(addressesOf(flags), 'read');
  try {
    if (!store.local) throw new UsageError(`this works on a local store only, not on ${flags.store}`);
    return await work(store.local);
  } finally {
    await store.close();
  }
}
