import type { ObjectStore } from '../../../castore/objects/object-store.ts';
import { Reliance } from '../../../castore/objects/reliance.ts';
import { STORE_DIR, StorePath } from '../../../nix/store-path.ts';
import { mapAhead } from '../../../util/async/iterables.ts';
import { asBuffer } from '../../../util/bytes.ts';
import { damaged, StoreError } from '../../../util/errors.ts';
import type { PathInfoService } from '../../path-info/service.ts';
import type { Root } from '../roots.ts';
import { checkRootName, noRoot } from '../roots.ts';
import { now } from '../uses.ts';

const PREFIX = 'roots/v1/';
const MAX_ROOT = 4096;
const READ_AT_ONCE = 32;

/** The roots of a bucket: `roots/v1/<name, percent-encoded>` is a JSON object with a store path, and until when. */
export class BucketRoots {
  readonly #objects: ObjectStore;

  constructor(objects: ObjectStore) {
    this.#objects = objects;
  }

  /** As `RootTable.add`. Throws UNAVAILABLE while a collection is under way, which may have read the roots already. */
  async add(
    infos: PathInfoService,
    name: string,
    storePath: StorePath,
    ttl: number | undefined,
  ): Promise<void> {
    checkRootName(name);
    if (!(await infos.describe(storePath.hash)))
      throw new StoreError('NOT_FOUND', `${STORE_DIR}/${storePath} is not in the store`);
    await new Reliance(this.#objects).requireNone(storePath.absolute());
    const root = { path: storePath.absolute(), ...(ttl === undefined ? {} : { expires: now() + ttl }) };
    await this.#objects.put(keyOf(name), Buffer.from(JSON.stringify(root)), 'always');
  }

  /** Throws NOT_FOUND when there is none of this name. */
  async remove(name: string): Promise<void> {
    checkRootName(name);
    if (!(await this.#objects.facts(keyOf(name)))) throw noRoot(name);
    await this.#objects.remove([keyOf(name)]);
  }

  /** All of them, in the order of their names. Throws DATA_LOSS for a damaged one. */
  async list(signal?: AbortSignal): Promise<Root[]> {
    const read = async ({ key }: { readonly key: string }) => {
      const object = await this.#objects.get(key, MAX_ROOT, signal);
      return object && this.#parse(key, object.bytes);
    };
    const roots = await Array.fromAsync(mapAhead(this.#objects.list(PREFIX, signal), READ_AT_ONCE, read));
    return roots.filter((root) => root !== undefined).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  #parse(key: string, bytes: Uint8Array): Root {
    let name = key.slice(PREFIX.length);
    try {
      name = decodeURIComponent(name);
      const { path, expires } = JSON.parse(asBuffer(bytes).toString());
      const storePath = StorePath.parseAbsolute(String(path));
      return { name, storePath, ...(typeof expires === 'number' ? { expires } : {}) };
    } catch (error) {
      throw damaged(`${this.#objects.address}: the root ${JSON.stringify(name)} is damaged; add it again`, {
        cause: error,
      });
    }
  }
}

function keyOf(name: string): string {
  // A dot alone would be a folder in a bucket of files.
  return PREFIX + encodeURIComponent(name).replaceAll('.', '%2E');
}
