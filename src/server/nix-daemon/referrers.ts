import type { StorePath } from '../../nix/store-path.ts';
import type { PathInfoService } from '../../store/path-info/service.ts';
import { latin1 } from '../../util/bytes.ts';
import { StoreError } from '../../util/errors.ts';

/** How long what was found is good for, in milliseconds: a command asks for many paths, one after the other. */
const FRESH_MS = 2000;

/** Finds out what refers to a path, by going through all path infos. */
export class Referrers {
  readonly #pathInfos: PathInfoService;
  #all: Promise<ReadonlyMap<string, StorePath[]>> | undefined;

  constructor(pathInfos: PathInfoService) {
    this.#pathInfos = pathInfos;
  }

  /** Of a store that cannot be listed, nothing is known to refer to anything. */
  async of(path: StorePath): Promise<readonly StorePath[]> {
    this.#all ??= this.#read();
    return (await this.#all).get(latin1(path.hash)) ?? [];
  }

  async #read(): Promise<ReadonlyMap<string, StorePath[]>> {
    const all = new Map<string, StorePath[]>();
    try {
      for await (const { storePath, references } of this.#pathInfos.list()) {
        for (const { hash } of references) {
          const key = latin1(hash);
          const others = all.get(key);
          if (others) others.push(storePath);
          else all.set(key, [storePath]);
        }
      }
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'UNIMPLEMENTED') throw error;
    } finally {
      setTimeout(() => {
        this.#all = undefined;
      }, FRESH_MS).unref();
    }
    return all;
  }
}
