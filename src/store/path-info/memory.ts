import { latin1 } from '../../util/bytes.ts';
import type { PathInfo } from './path-info.ts';
import type { PathInfoService } from './service.ts';
import { united } from './united.ts';

/** Keeps path infos by the hash of the store path, one character a byte. */
export interface MemoryPathInfos {
  get(key: string): PathInfo | undefined;
  set(key: string, info: PathInfo): unknown;
  values(): Iterable<PathInfo>;
}

/** Path infos in the memory of this process. */
export class MemoryPathInfoService implements PathInfoService {
  readonly isCache = true;
  readonly #infos: MemoryPathInfos;

  /** `infos`: what keeps them. */
  constructor(infos: MemoryPathInfos = new Map()) {
    this.#infos = infos;
  }

  async get(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    signal?.throwIfAborted();
    return this.#infos.get(latin1(hash));
  }

  describe(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    return this.get(hash, signal);
  }

  async put(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    signal?.throwIfAborted();
    return this.replace(united(this.#infos.get(latin1(info.storePath.hash)), info));
  }

  async replace(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    signal?.throwIfAborted();
    this.#infos.set(latin1(info.storePath.hash), info);
    return info;
  }

  async *list(signal?: AbortSignal): AsyncGenerator<PathInfo> {
    signal?.throwIfAborted();
    yield* this.#infos.values();
  }
}
