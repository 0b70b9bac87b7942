import { StoreError } from '../../util/errors.ts';
import type { Substituter } from '../substitute/substituter.ts';
import type { PathDescription, PathInfo } from './path-info.ts';
import type { PathInfoService } from './service.ts';

/**
 * Path infos of binary caches, before them those that are here already. What is asked for is taken in whole,
 * contents and all; `describe` alone does without.
 */
export class NixCachePathInfoService implements PathInfoService {
  readonly #own: PathInfoService;
  readonly #substituter: Substituter;
  readonly #name: string;

  /** `own`: where the substituter puts what it takes. `name` is for people. */
  constructor(own: PathInfoService, substituter: Substituter, name: string) {
    this.#own = own;
    this.#substituter = substituter;
    this.#name = name;
  }

  async get(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    return (await this.#own.get(hash, signal)) ?? (await this.#substituter.fetch(hash, signal));
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
