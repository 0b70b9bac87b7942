import { ObjectStoreDirectoryService } from '../../src/castore/directory/object-store.ts';
import { encodePack } from '../../src/castore/directory/pack.ts';
import type { DirectoryService } from '../../src/castore/directory/service.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import type { Condition, ObjectStore } from '../../src/castore/objects/object-store.ts';
import { keyOf } from '../../src/castore/objects/object-store.ts';
import { storeOver } from '../../src/store/open/backends/objectstore.ts';
import type { Store } from '../../src/store/services.ts';
import { tempDir } from './temp.ts';

/** The services over objects, with a cache of directories of their own. */
export async function storeAmong(objects: ObjectStore): Promise<Store> {
  let cache: LocalStore | undefined;
  const store = await storeOver(objects, {
    cache: () => {
      cache ??= LocalStore.openToFill(tempDir());
      return cache;
    },
  });
  const close = async () => {
    await cache?.close();
    await store.close();
  };
  return { ...store, close };
}

/** Directories among objects of which any may be stored alone, whatever it lacks. */
export class LooseDirectories extends ObjectStoreDirectoryService {
  readonly #put: DirectoryService['put'];

  constructor(objects: ObjectStore) {
    super(objects);
    this.#put = async (directory) => {
      await objects.put(keyOf('dirs', directory.digest), encodePack([directory]), 'absent');
    };
  }

  override put: DirectoryService['put'] = (directory) => this.#put(directory);
}

/** Passes requests on and keeps a record of them. */
export class RecordingObjects implements ObjectStore {
  readonly address: string;
  readonly isFar: boolean;
  readonly requests: string[] = [];
  readonly #inner: ObjectStore;

  constructor(inner: ObjectStore) {
    this.#inner = inner;
    this.address = inner.address;
    this.isFar = inner.isFar;
  }

  get(key: string, limit: number, signal?: AbortSignal) {
    this.requests.push(`get ${key}`);
    return this.#inner.get(key, limit, signal);
  }

  facts(key: string, signal?: AbortSignal) {
    this.requests.push(`has ${key}`);
    return this.#inner.facts(key, signal);
  }

  put(key: string, bytes: Uint8Array, condition: Condition, signal?: AbortSignal) {
    this.requests.push(`put ${key}`);
    return this.#inner.put(key, bytes, condition, signal);
  }

  list(prefix: string, signal?: AbortSignal) {
    this.requests.push(`list ${prefix}`);
    return this.#inner.list(prefix, signal);
  }

  remove(keys: readonly string[], signal?: AbortSignal) {
    this.requests.push(`remove ${keys.length}`);
    return this.#inner.remove(keys, signal);
  }

  close() {
    return this.#inner.close();
  }
}
