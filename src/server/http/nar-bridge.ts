import { STORE_DIR } from '../../nix/store-path.ts';
import { nameRottenPaths } from '../../store/keeping/rotten-paths.ts';
import type { OpenedStore } from '../../store/services.ts';
import { UploadTables } from '../../store/upload/tables.ts';
import type { ListenAddress, SocketOwnership } from '../../util/listen-address.ts';
import { log } from '../../util/log.ts';
import type { RunningServer } from '../listen.ts';
import type { UploadRule } from '../upload-rule.ts';
import type { Exchange } from './exchange.ts';
import { HttpMetrics } from './metrics.ts';
import { narRoutes } from './nar-routes.ts';
import { NarSender } from './nar-sender.ts';
import { narInfoRoutes } from './narinfo.ts';
import { problemOf } from './problem.ts';
import type { Route } from './router.ts';
import { findRoute } from './router.ts';
import { serveHttp } from './server.ts';

export interface NarBridgeOptions {
  readonly store: OpenedStore;
  readonly listen: ListenAddress;
  readonly ownership: SocketOwnership;
  readonly uploads: UploadRule;
  /** Rank among caches: Nix asks those with lower numbers first. */
  readonly priority: number;
  /** Whether NARs are compressed on the way for clients that ask for it. */
  readonly compress: boolean;
}

/** Serves a store as a binary cache for Nix. */
export async function serveNarBridge(options: NarBridgeOptions): Promise<RunningServer> {
  const { store, uploads, listen, ownership } = options;
  const tables = new UploadTables(store.records());
  if (store.local) nameRottenPaths(store.local);
  const metrics = new HttpMetrics(store.local?.env.dir);
  const sender = new NarSender(store, tables, options.compress);
  const checkUpload = (exchange: Exchange) =>
    uploads.check({ isLocal: exchange.isLocal, authorization: exchange.header('authorization') });
  const routes = [
    ...narInfoRoutes(store, tables, checkUpload),
    ...narRoutes(store, tables, sender, checkUpload),
    ...otherRoutes(options.priority, metrics),
  ];
  const handle = async (exchange: Exchange) => {
    const done = metrics.begin(exchange);
    let name = 'none';
    try {
      const route = findRoute(routes, exchange);
      name = route.name;
      await route.run(exchange);
    } catch (error) {
      if (!exchange.signal.aborted) exchange.fail(problemOf(error));
    } finally {
      done(name);
      log.debug('answered', { method: exchange.method, path: exchange.path, status: exchange.status });
    }
  };
  return serveHttp({ listen, ownership, handle });
}

function otherRoutes(priority: number, metrics: HttpMetrics): Route[] {
  const info = `StoreDir: ${STORE_DIR}\nWantMassQuery: 1\nPriority: ${priority}\n`;
  const text = (name: string, path: RegExp, type: string, body: string): Route => ({
    name,
    path,
    get: (exchange) => exchange.reply(200, type, body),
  });
  return [
    text('root', /^\/$/, 'text/plain', 'This is a binary cache for Nix, served by tvix-store nar-bridge.\n'),
    text('nix-cache-info', /^\/nix-cache-info$/, 'text/x-nix-cache-info', info),
    text('health', /^\/health$/, 'text/plain', 'ok\n'),
    {
      name: 'metrics',
      path: /^\/metrics$/,
      get: async (exchange) => exchange.reply(200, metrics.contentType, await metrics.text()),
    },
  ];
}
