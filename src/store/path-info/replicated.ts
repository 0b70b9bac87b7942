import type { Replicas } from '../../util/async/replicas.ts';
import type { PathDescription, PathInfo } from './path-info.ts';
import type { PathInfoService } from './service.ts';

/** Path infos that several services have. Each is read from whichever answers first. */
export class ReplicatedPathInfoService implements PathInfoService {
  readonly #replicas: Replicas<PathInfoService>;

  constructor(replicas: Replicas<PathInfoService>) {
    this.#replicas = replicas;
  }

  get(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    return this.#replicas.ask((service, until) => service.get(hash, until), { signal });
  }

  describe(hash: Uint8Array, signal?: AbortSignal): Promise<PathDescription | undefined> {
    return this.#replicas.ask((service, until) => service.describe(hash, until), { signal });
  }

  put(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    return this.#replicas.writer.put(info, signal);
  }

  /** Those of whoever is the first to name one. */
  async *list(signal?: AbortSignal): AsyncGenerator<PathInfo> {
    const begun = await this.#replicas.ask(
      async (service, until) => {
        const infos = service.list(until)[Symbol.asyncIterator]();
        return { first: await infos.next(), infos };
      },
      { signal },
    );
    try {
      for (let next = begun.first; !next.done; next = await begun.infos.next()) yield next.value;
    } finally {
      await begun.infos.return?.();
    }
  }
}
