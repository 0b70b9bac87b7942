import { LRUCache } from 'lru-cache';
import { latin1 } from '../../util/bytes.ts';
import type { PathInfo } from './path-info.ts';
import type { PathInfoService } from './service.ts';

/** The path infos that were used last, in the memory of this process: what stands near in a cache. */
export class LruPathInfoService implements PathInfoService {
  readonly #infos: LRUCache<string, PathInfo>;

  /** Keeps at most `capacity` of them. */
  constructor(capacity: number) {
    this.#infos = new LRUCache({ max: capacity });
  }

  async get(hash: Uint8Array): Promise<PathInfo | undefined> {
    return this.#infos.get(latin1(hash));
  }

  describe(hash: Uint8Array): Promise<PathInfo | undefined> {
    return this.get(hash);
  }

  async put(info: PathInfo): Promise<PathInfo> {
    this.#infos.set(latin1(info.storePath.hash), info);
    return info;
  }

  async *list(): AsyncGenerator<PathInfo> {
    yield* this.#infos.values();
  }
}
