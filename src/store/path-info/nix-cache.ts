import { LRUCache } from 'lru-cache';
import { latin1 } from '../../util/bytes.ts';
import { StoreError } from '../../util/errors.ts';
import type { Substituter } from '../substitute/substituter.ts';
import type { PathDescription, PathInfo } from './path-info.ts';
import type { PathInfoService } from './service.ts';

/** So many paths that were asked for last stay for so long, in milliseconds: whoever asks reads them then. */
const STAYING = 8;
const STAY_MS = 60_000;

/**
 * Path infos of binary caches, before them those that are here already. What is asked for is taken in whole,
 * contents and all; `describe` alone does without.
 */
export class NixCachePathInfoService implements PathInfoService {
  readonly #own: PathInfoService;
  readonly #substituter: Substituter;
  readonly #name: string;
  readonly #staying = new LRUCache<string, () => void>({
    max: STAYING,
    ttl: STAY_MS,
    ttlAutopurge: true,
    dispose: (release) => release(),
  });

  /** `own`: where the substituter puts what it takes. `name` is for people. */
  constructor(own: PathInfoService, substituter: Substituter, name: string) {
    this.#own = own;
    this.#substituter = substituter;
    this.#name = name;
  }

  async get(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    const own = await this.#own.get(hash, signal);
    try {
      const held = await this.#substituter.held(hash, signal);
      if (held) {
        this.#staying.set(latin1(hash), held.release);
        return held.info;
      }
    } catch (error) {
      // What is left of it can be had all the same.
      if (!own || signal?.aborted) throw error;
    }
    return own;
  }

  async describe(hash: Uint8Array, signal?: AbortSignal): Promise<PathDescription | undefined> {
    return (await this.#own.describe(hash, signal)) ?? (await this.#substituter.describe(hash, signal));
  }

  put({ storePath }: PathInfo): Promise<PathInfo> {
    return Promise.reject(
      new StoreError(
        'FAILED_PRECONDITION',
        `${this.#name} can only be read; put ${storePath} into another store`,
      ),
    );
  }

  list(): AsyncIterable<PathInfo> {
    throw new StoreError('UNIMPLEMENTED', `${this.#name} cannot tell what it has: name store paths`);
  }
}
