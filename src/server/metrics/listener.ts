import type { LocalStore } from '../../castore/local/store.ts';
import type { ServedStore } from '../../mount/serve-store.ts';
import type { ListenAddress } from '../../util/listen-address.ts';
import { AccessRule } from '../access/rule.ts';
import type { HealthCheck } from '../health.ts';
import { answeringBy } from '../http/answer.ts';
import { healthRoute } from '../http/health.ts';
import { serveHttp } from '../http/server.ts';
import type { RunningServer } from '../listen.ts';
import { Exposition } from './exposition.ts';
import { farStoreMetrics } from './far-stores.ts';
import { fileSystemMetrics } from './file-system.ts';
import { localStoreMetrics } from './local-store.ts';
import { metricsRoute } from './route.ts';

/** A listener of its own for those who watch this process: whoever can connect may ask. */
export class Watching {
  readonly addresses: readonly string[];
  readonly #exposition: Exposition;
  readonly #server: Omit<RunningServer, 'metrics'>;

  private constructor(exposition: Exposition, server: Omit<RunningServer, 'metrics'>) {
    this.#exposition = exposition;
    this.#server = server;
    this.addresses = server.addresses;
  }

  static async begin(listen: ListenAddress, health: HealthCheck): Promise<Watching> {
    const exposition = await Exposition.load(farStoreMetrics());
    const told = async () => {
      // What is away may be back.
      await health.now();
      return exposition;
    };
    const routes = [metricsRoute(told, true), healthRoute(health)];
    const handle = answeringBy(routes, new AccessRule(), () => () => {});
    return new Watching(exposition, await serveHttp({ listen, ownership: {}, handle }));
  }

  /** From now on it tells of a server, too, and of what is `here` of the store that it serves. */
  server({ metrics }: RunningServer, here: LocalStore | undefined): void {
    this.#exposition.add(metrics);
    if (here) this.#exposition.add(localStoreMetrics(here));
  }

  /** From now on it tells of a file system, too. */
  fileSystem(served: ServedStore): void {
    this.#exposition.add([...fileSystemMetrics(served), ...localStoreMetrics(served.local)]);
  }

  stop(): Promise<void> {
    return this.#server.stop(AbortSignal.abort());
  }
}
