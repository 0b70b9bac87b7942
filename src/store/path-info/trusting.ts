import { StoreError } from '../../util/errors.ts';
import type { Believer } from '../trust/believer.ts';
import type { PathDescription, PathInfo } from './path-info.ts';
import { hasContents } from './path-info.ts';
import type { PathInfoService } from './service.ts';
import { replacing } from './united.ts';

export interface TrustingOptions {
  /** Where they are from, for people. */
  readonly where: string;
  /** Whether these are copies of others': what is not believed of them is asked for there. */
  readonly isCopy: boolean;
}

/**
 * Path infos that others may have made, of which only those are given that are to be believed. One that is not is refused
 * (PERMISSION_DENIED): it is there, and must not look as if it were not. What is put goes through as it is.
 */
export class TrustingPathInfoService implements PathInfoService {
  readonly isCache: boolean;
  readonly checksContents: boolean;
  readonly putIfWhole?: (info: PathInfo, signal?: AbortSignal) => Promise<void>;
  readonly #inner: PathInfoService;
  readonly #believer: Believer;
  readonly #options: TrustingOptions;

  constructor(inner: PathInfoService, believer: Believer, options: TrustingOptions) {
    this.#inner = inner;
    this.#believer = believer;
    this.#options = options;
    this.isCache = inner.isCache === true;
    this.checksContents = inner.checksContents === true;
    if (inner.putIfWhole) this.putIfWhole = inner.putIfWhole.bind(inner);
  }

  get target(): PathInfoService {
    return this.#inner.target ?? this.#inner;
  }

  get(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    return this.#unlessRefused(async () => {
      const info = await this.#inner.get(hash, signal);
      if (info) await this.#believer.believe(info, this.#options.where, signal);
      return info;
    });
  }

  /** Without the contents of what is still to be checked: nothing is read for this. */
  describe(hash: Uint8Array, signal?: AbortSignal): Promise<PathDescription | undefined> {
    const { where } = this.#options;
    return this.#unlessRefused(async () => {
      const info = await this.#inner.describe(hash, signal);
      if (!info) return undefined;
      if (hasContents(info)) return this.#believer.isBelieved(info, where) ? info : withoutContents(info);
      this.#believer.checkDescription(info, where);
      return info;
    });
  }

  async #unlessRefused<T>(ask: () => Promise<T | undefined>): Promise<T | undefined> {
    try {
      return await ask();
    } catch (error) {
      if (this.#options.isCopy && error instanceof StoreError && error.code === 'PERMISSION_DENIED')
        return undefined;
      throw error;
    }
  }

  put(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    return this.#inner.put(info, signal);
  }

  replace(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    return replacing(this.#inner, info, signal);
  }

  /** Ends at the first that is refused: what is left out would look as if it were not there. */
  async *list(signal?: AbortSignal): AsyncGenerator<PathInfo> {
    const { where } = this.#options;
    for await (const info of this.#inner.list(signal)) {
      if (!this.#believer.listsBelieved) await this.#believer.believe(info, where, signal);
      else if (!this.#isBelieved(info)) continue;
      yield info;
    }
  }

  #isBelieved(info: PathInfo): boolean {
    try {
      return this.#believer.isBelieved(info, this.#options.where);
    } catch {
      return false;
    }
  }
}

function withoutContents({ node: _, ...description }: PathInfo): PathDescription {
  return description;
}
