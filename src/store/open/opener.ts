import { LocalStore } from '../../castore/local/store.ts';
import type { Contents, OpenedStore, Store } from '../services.ts';
import type { BackendContext, Use } from './backends/backend.ts';

type OpenAddress = (address: string, context: BackendContext) => Promise<Store>;

/** Opens what is at addresses, each once, and closes it: last what the rest was built of. */
export class Opener {
  readonly #openAddress: OpenAddress;
  readonly #cacheDir: string;
  readonly #opened = new Map<string, Promise<Store>>();
  readonly #toClose: { close(): Promise<void> }[] = [];
  readonly #contents: Contents;
  #cache: LocalStore | undefined;
  #assembled: Store | undefined;

  constructor(openAddress: OpenAddress, cacheDir: string) {
    this.#openAddress = openAddress;
    this.#cacheDir = cacheDir;
    const assembled = () => this.#assembled!;
    this.#contents = {
      get blobs() {
        return assembled().blobs;
      },
      get directories() {
        return assembled().directories;
      },
    };
  }

  /** What a back end sees of this. */
  context(use: Use): BackendContext {
    return {
      use,
      cache: () => this.#openCache(),
      contents: this.#contents,
      // Who writes for others does so in every part.
      open: (address, as) => this.#open(address, use === 'serve' && as === 'write' ? use : as),
    };
  }

  #open(address: string, use: Use): Promise<Store> {
    const key = `${use} ${address}`;
    const opened = this.#opened.get(key) ?? this.#openNew(address, use);
    // What is in memory is at no place: each is one of its own.
    if (!/^(?:objectstore\+)?memory:/.test(address)) this.#opened.set(key, opened);
    return opened;
  }

  async #openNew(address: string, use: Use): Promise<Store> {
    const store = await this.#openAddress(address, this.context(use));
    this.#toClose.push(store);
    return store;
  }

  /** The store that all of it was opened for; closing that closes everything. */
  assemble(store: Store): OpenedStore {
    this.#assembled = store;
    this.#toClose.push(store);
    return { ...store, records: () => store.local ?? this.#openCache(), close: () => this.close() };
  }

  #openCache(): LocalStore {
    this.#cache ??= LocalStore.openToFill(this.#cacheDir);
    return this.#cache;
  }

  async close(): Promise<void> {
    for (const store of this.#toClose.splice(0).reverse()) await store.close();
    await this.#cache?.close();
  }
}
