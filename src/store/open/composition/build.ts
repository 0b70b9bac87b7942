import type { BlobService } from '../../../castore/blob/service.ts';
import type { DirectoryService } from '../../../castore/directory/service.ts';
import { StoreError } from '../../../util/errors.ts';
import type { PathInfoService } from '../../path-info/service.ts';
import type { Services, Store } from '../../services.ts';
import type { Part } from '../assemble.ts';
import { assemble } from '../assemble.ts';
import type { BackendContext, Use } from '../backends/backend.ts';
import type { Composition } from './check.ts';
import { partKeys } from './check.ts';
import type { Instance } from './instance.ts';
import { givenFor } from './instance.ts';
import type { Kind, Parts } from './types.ts';

/** Builds what a composition's store consists of, and what that is built of: each instance once. */
export async function buildComposition(composition: Composition, context: BackendContext): Promise<Store> {
  const builder = new Builder(composition, context);
  const { entries } = composition;
  try {
    const pathInfos = (await builder.build(entries.pathInfos)) as Part<PathInfoService>;
    const store = assemble({
      blobs: (await builder.build(entries.blobs)) as Part<BlobService>,
      directories: (await builder.build(entries.directories)) as Part<DirectoryService>,
      pathInfos: { ...pathInfos, service: coherent(composition, pathInfos.service) },
    });
    return { ...store, close: () => builder.close() };
  } catch (error) {
    await builder.close();
    throw error;
  }
}

class Builder {
  readonly #composition: Composition;
  readonly #context: BackendContext;
  readonly #built = new Map<Instance, Promise<Part>>();
  readonly #closers: (() => Promise<void>)[] = [];

  constructor(composition: Composition, context: BackendContext) {
    this.#composition = composition;
    this.#context = context;
  }

  build(instance: Instance): Promise<Part> {
    let built = this.#built.get(instance);
    if (!built) {
      built = this.#build(instance);
      this.#built.set(instance, built);
    }
    return built;
  }

  async #build(instance: Instance): Promise<Part> {
    const { kind, type } = instance;
    const given = givenFor(instance);
    if (type.address) {
      return this.#open(type.address.of(given), this.#useOf(instance), kind);
    }
    const built = new Map<string, Part>();
    for (const key of partKeys(instance)) built.set(key, await this.#part(instance, key));
    const parts = {
      service: (key: string) => built.get(key)!.service,
      contents: this.#context.contents,
      onClose: (close: () => Promise<void>) => void this.#closers.push(close),
    };
    const make = type.make![kind] as (parts: Parts<Kind>, of: typeof given) => Services[Kind];
    const target = built.get(type.puts ?? '');
    return {
      service: await make(parts as Parts<Kind>, given),
      far: target?.far,
      store: type.through ? target?.store : undefined,
    };
  }

  #part(instance: Instance, key: string): Promise<Part> {
    const part = this.#composition.part(instance, key);
    if (part) return this.build(part);
    const { kind = instance.kind, use = this.#context.use } = instance.type.keys[key]!;
    return this.#open(instance.values.get(key) as string, use, kind);
  }

  /** What only keeps copies is filled; what anybody writes to is a store. */
  #useOf(instance: Instance): Use {
    const { instances, entries, part } = this.#composition;
    const uses: (Use | undefined)[] = instances.flatMap((one) =>
      partKeys(one)
        .filter((key) => part(one, key) === instance)
        .map((key) => one.type.keys[key]!.use),
    );
    if (Object.values(entries).includes(instance)) uses.push(undefined);
    if (uses.length > 0 && uses.every((use) => use === 'fill')) return 'fill';
    return uses.some((use) => use !== undefined) ? 'write' : this.#context.use;
  }

  async #open(address: string, use: Use, kind: Kind): Promise<Part> {
    const store = await this.#context.open(address, use);
    return { service: store[kind], store, far: store.far };
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) await close();
  }
}

/**
 * A path info must not be put where its contents are not: where some are put near and some far (`combined` beside
 * `cache`), there is no place for it.
 */
function coherent(composition: Composition, pathInfos: PathInfoService): PathInfoService {
  const ways = new Set(Object.values(composition.entries).map((entry) => putsTo(composition, entry)));
  if (!ways.has('near') || !ways.has('far')) return pathInfos;
  return {
    get: (hash, signal) => pathInfos.get(hash, signal),
    describe: (hash, signal) => pathInfos.describe(hash, signal),
    list: (signal) => pathInfos.list(signal),
    put: () =>
      Promise.reject(
        new StoreError(
          'FAILED_PRECONDITION',
          'nothing can be put into this composition: a combined service would put it near, a cache far; ' +
            'take one of the two for blobs, directories and path infos alike',
        ),
      ),
  };
}

/** Which of its parts takes what is put into an instance. */
export function putsTo(composition: Composition, instance: Instance): string | undefined {
  const { puts, through } = instance.type;
  const next = through && puts !== undefined ? composition.part(instance, puts) : undefined;
  return next ? putsTo(composition, next) : puts;
}
