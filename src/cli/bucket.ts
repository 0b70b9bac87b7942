import type { ObjectStore } from '../castore/objects/object-store.ts';
import { openStore } from '../store/open/open-store.ts';
import type { Store } from '../store/services.ts';
import { interruptible } from './interruptible.ts';
import type { StoreFlags } from './store-options.ts';
import { addressesOf } from './store-options.ts';

/** Whether the store that the flags name is one bucket, or what is laid out like one. */
export function namesBucket(flags: StoreFlags): boolean {
  const { blobs, directories, pathInfos, composition } = addressesOf(flags);
  const isOne = composition === undefined && blobs === directories && blobs === pathInfos;
  return isOne && blobs.startsWith('objectstore+');
}

/** Opens a bucket, and closes it behind `work`. */
export function withBucket<T>(
  flags: StoreFlags,
  work: (objects: ObjectStore, store: Store, signal: AbortSignal) => Promise<T>,
  use: 'read' | 'change' = 'read',
): Promise<T> {
  return interruptible(async (signal) => {
    const store = await openStore(addressesOf(flags), use);
    try {
      return await work(store.bucket!.objects, store, signal);
    } finally {
      await store.close();
    }
  });
}
