import { StoreError, WrongContents } from '../../util/errors.ts';
import type { Digest } from '../digest.ts';
import { Directory } from '../directory.ts';
import type { ObjectStore } from '../objects/object-store.ts';
import { keyOf } from '../objects/object-store.ts';
import { Reliance } from '../objects/reliance.ts';
import { decodePack, encodePack } from './pack.ts';
import { RootFirstValidator } from './root-first.ts';
import type { DirectoryPutter, DirectoryService } from './service.ts';
import { ClosureValidator, closureAmong } from './service.ts';

/** The packs of some million directories; one is held in memory. */
const MAX_PACK = 256 << 20;

/**
 * Directories among objects, as tvix and snix lay them out: `dirs/b3/<4 digits>/<64 digits>` is a closure, from its
 * root on, under the digest of its root. Nothing else can be asked for: put a `closureCache` before it.
 */
export class ObjectStoreDirectoryService implements DirectoryService {
  readonly #objects: ObjectStore;
  readonly #reliance: Reliance;

  constructor(objects: ObjectStore, reliance = new Reliance(objects)) {
    this.#objects = objects;
    this.#reliance = reliance;
  }

  async get(digest: Digest): Promise<Directory | undefined> {
    throw this.#only(`directory ${digest}`);
  }

  async *getRecursive(digest: Digest, signal?: AbortSignal): AsyncGenerator<Directory> {
    const key = keyOf('dirs', digest);
    const object = await this.#objects.get(key, MAX_PACK, signal);
    // Nobody relies on it any more.
    if (!object) this.#reliance.forget(key);
    if (!object) return;
    const lie = (what: string, cause?: unknown) => {
      this.#reliance.forget(key);
      return new WrongContents(`${this.#objects.address} ${what}`, { cause });
    };
    const validator = new RootFirstValidator(digest, lie);
    let count = 0;
    for await (const bytes of decodePack(object.bytes)) {
      signal?.throwIfAborted();
      let directory: Directory;
      try {
        directory = Directory.decode(bytes);
      } catch (error) {
        throw lie('holds an invalid directory', error);
      }
      validator.add(directory);
      yield directory;
      count++;
    }
    if (count === 0) throw lie(`holds nothing as the tree of directory ${digest}`);
    validator.finish();
  }

  async put(directory: Directory): Promise<void> {
    if ([...directory.children()].length > 0) throw this.#only(`directory ${directory.digest}, alone,`);
    await this.#put(directory.digest, [directory]);
  }

  /** Whether a tree is there, and stays there for as long as an upload takes: see `Reliance`. */
  keep(root: Digest, signal?: AbortSignal): Promise<boolean> {
    return this.#reliance.keep(keyOf('dirs', root), MAX_PACK, signal);
  }

  #only(what: string): StoreError {
    return new StoreError(
      'UNIMPLEMENTED',
      `${this.#objects.address} takes and gives whole trees of directories by their root: ` +
        `${what} can be had only with a cache of directories before it`,
    );
  }

  /** The closure is sent at the end, at once. */
  putMany(): DirectoryPutter {
    const validator = new ClosureValidator();
    const added = new Map<string, Directory>();
    return {
      add: async (directory) => {
        if (validator.add(directory)) added.set(directory.digest.hex, directory);
      },
      close: async () => {
        const root = validator.finish();
        await this.#put(root, await closureAmong(root, added));
        return root;
      },
    };
  }

  async #put(root: Digest, closure: readonly Directory[]): Promise<void> {
    const size = closure.reduce((sum, { bytes }) => sum + bytes.length, 0);
    await this.#reliance.putOnce(keyOf('dirs', root), size, () => encodePack(closure));
  }

  /** A put is acknowledged when it is durable. */
  async flush(): Promise<void> {}
}
