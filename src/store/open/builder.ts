import { CacheLimit } from '../../castore/local/cache-limit.ts';
import { LocalStore } from '../../castore/local/store.ts';
import type { PublicKey } from '../../nix/key.ts';
import type { Patience } from '../../util/async/retry.ts';
import { DEFAULT_PATIENCE } from '../../util/async/retry.ts';
import { UsageError } from '../../util/errors.ts';
import type { PathInfoService } from '../path-info/service.ts';
import type { Contents, OpenedStore, ServiceName, Services, Store, Use } from '../services.ts';
import type { Believer } from '../trust/believer.ts';
import type { Roots } from './assemble.ts';
import { assemble } from './assemble.ts';
import type { Description } from './description.ts';
import { keyOf, makes } from './description.ts';
import { givenBy } from './keys.ts';
import type { Make, Part, Site } from './kind.ts';
import { placeOf, usesOf } from './uses.ts';

interface BuilderOptions {
  /** Where to keep what has to be kept of others'. */
  readonly cacheDir: string;
  /** See `Addresses`. */
  readonly cacheSize?: number | undefined;
  readonly patience?: Patience;
  readonly trustedKeys?: readonly PublicKey[] | undefined;
  readonly listsBelieved?: boolean | undefined;
}

/** Builds the services that are described, each once, and closes them: last what the rest was built of. */
export class Builder {
  readonly #roots: Roots;
  readonly #options: BuilderOptions;
  readonly #useOf: (description: Description) => Use;
  readonly #parts = new Map<ServiceName, Map<Description, Promise<Part>>>();
  readonly #stores = new Map<unknown, Promise<Store>>();
  readonly #shared = new Map<unknown, object>();
  /** Those for which somebody else waits. */
  readonly #impatient = new Set<Description>();
  readonly #toClose: (() => Promise<void>)[] = [];
  readonly #contents: Contents;
  #cache: LocalStore | undefined;
  #hasLimit = false;
  #built: Store | undefined;
  #believer: Promise<Believer> | undefined;

  constructor(roots: Roots, use: Use, options: BuilderOptions) {
    this.#roots = roots;
    this.#options = options;
    this.#useOf = usesOf(Object.values(roots), use);
    for (const root of Object.values(roots)) this.#findImpatient(root, false);
    const built = () => this.#built!;
    this.#contents = {
      get blobs() {
        return built().blobs;
      },
      get directories() {
        return built().directories;
      },
    };
  }

  /** The store of the three services; closing that closes everything. */
  async build(): Promise<OpenedStore> {
    const { blobs, directories, pathInfos } = this.#roots;
    try {
      const store = assemble(this.#roots, {
        blobs: await this.#part(blobs, 'blobs'),
        directories: await this.#part(directories, 'directories'),
        pathInfos: await this.#part(pathInfos, 'pathInfos'),
      });
      if (Number.isFinite(this.#options.cacheSize) && !this.#hasLimit)
        throw new UsageError('--cache-size has no effect here: nothing is fetched into a cache');
      this.#built = store;
      return {
        ...store,
        records: () => store.local ?? this.#openCache(),
        here: () => store.local ?? this.#cache,
        close: () => this.#close(),
      };
    } catch (error) {
      await this.#close();
      throw error;
    }
  }

  #part<K extends ServiceName>(description: Description, service: K): Promise<Part<Services[K]>> {
    const { kind, parts } = description;
    if (kind.through && !makes(description, service)) return this.#part(parts.get(kind.puts!)!, service);
    const built = this.#parts.get(service) ?? new Map<Description, Promise<Part>>();
    this.#parts.set(service, built);
    const part = built.get(description) ?? this.#make(description, service);
    built.set(description, part);
    return part as Promise<Part<Services[K]>>;
  }

  async #make<K extends ServiceName>(description: Description, service: K): Promise<Part<Services[K]>> {
    const { kind, name } = description;
    const made = await (kind.makes[service] as Make<K>)(this.#site(description));
    const use = this.#useOf(description);
    if (service !== 'pathInfos' || !this.#options.trustedKeys || !kind.isOthers?.(use)) return made;
    const trusting = await this.#trusting(made.service as PathInfoService, name, use === 'fill');
    return { ...made, service: trusting as Services[K] };
  }

  /** Path infos of others, with what is to be believed only, if it matters whom they are from. */
  async #trusting(pathInfos: PathInfoService, where: string, isCopy: boolean): Promise<PathInfoService> {
    const { trustedKeys, listsBelieved = false } = this.#options;
    if (!trustedKeys) return pathInfos;
    // Loaded when it is needed: most stores do without.
    const { TrustingPathInfoService } = await import('../path-info/trusting.ts');
    this.#believer ??= import('../trust/believer.ts').then(({ Believer }) => {
      const options = { contents: this.#contents, cache: () => this.#openCache(), listsBelieved };
      const believer = new Believer(trustedKeys, options);
      this.#toClose.push(() => believer.settle());
      return believer;
    });
    return new TrustingPathInfoService(pathInfos, await this.#believer, { where, isCopy });
  }

  #site(description: Description): Site {
    const site: Site = {
      url: description.url!,
      given: givenBy(description.values),
      use: this.#useOf(description),
      patience: this.#patienceWith(description),
      cache: () => this.#openCache(),
      openToFill: (dir) => this.#openToFill(dir),
      trustedKeys: this.#options.trustedKeys,
      believedCopies: (pathInfos) => this.#trusting(pathInfos, description.name, true),
      contents: this.#contents,
      part: (key, service) => this.#part(description.parts.get(key)!, service),
      parts: (key, service) =>
        [...description.parts]
          .filter(([name]) => name.startsWith(`${key}.`))
          .map(([, part]) => ({ name: part.name, part: this.#part(part, service) })),
      shared: (make) => this.#share(description, make),
      store: (open) => this.#store(description, () => open(site)),
      onClose: (close) => void this.#toClose.push(close),
    };
    return site;
  }

  #findImpatient(description: Description, isOne: boolean): void {
    if (isOne) this.#impatient.add(description);
    for (const [key, part] of description.parts)
      this.#findImpatient(part, isOne || keyOf(description, key)?.failsAtOnce === true);
  }

  #patienceWith(description: Description): Patience {
    const { patience = DEFAULT_PATIENCE } = this.#options;
    return this.#impatient.has(description) ? { ...patience, awayMs: 0 } : patience;
  }

  #share<T extends object>(description: Description, make: () => T): T {
    const places = [...description.parts.values()].map(placeOf);
    const isPlace = places.every((place) => typeof place === 'string');
    const key = isPlace ? [description.typeName, ...places].join(' ') : description;
    const shared = (this.#shared.get(key) as T | undefined) ?? make();
    this.#shared.set(key, shared);
    return shared;
  }

  async #store(description: Description, open: () => Promise<Store> | Store): Promise<Store> {
    const place = placeOf(description);
    const openNew = async () => {
      const store = await open();
      this.#toClose.push(() => store.close());
      return store;
    };
    const opened = this.#stores.get(place) ?? openNew();
    this.#stores.set(place, opened);
    return opened;
  }

  #openCache(): LocalStore {
    this.#cache ??= this.#openToFill(this.#options.cacheDir);
    return this.#cache;
  }

  #openToFill(dir: string): LocalStore {
    const { cacheSize } = this.#options;
    const local = LocalStore.openToFill(dir);
    if (cacheSize === undefined) return local;
    if (local.env.kind === 'cache') {
      new CacheLimit(local.env, cacheSize);
      this.#hasLimit = true;
    } else if (Number.isFinite(cacheSize)) {
      void local.close();
      throw new UsageError(`--cache-size is for caches, and ${dir} is a store: name another directory`);
    }
    return local;
  }

  async #close(): Promise<void> {
    for (const close of this.#toClose.splice(0).reverse()) await close();
    await this.#cache?.close();
  }
}
