import type { Socket } from 'node:net';
import type { SecretKey } from '../../nix/key.ts';
import { STORE_DIR } from '../../nix/store-path.ts';
import { nameRottenPaths } from '../../store/keeping/rotten-paths.ts';
import type { OpenedStore } from '../../store/services.ts';
import { SideFiles } from '../../store/side-files/side-files.ts';
import { ServingSigner } from '../../store/trust/serving-signer.ts';
import { UploadTables } from '../../store/upload/tables.ts';
import type { ListenAddress, SocketOwnership } from '../../util/listen-address.ts';
import type { AccessRule } from '../access/rule.ts';
import { examinedStore, HealthCheck } from '../health.ts';
import type { RunningServer } from '../listen.ts';
import { ConnectionCounts } from '../metrics/connections.ts';
import { Exposition } from '../metrics/exposition.ts';
import { farStoreMetrics } from '../metrics/far-stores.ts';
import { localStoreMetrics } from '../metrics/local-store.ts';
import { metricsRoute } from '../metrics/route.ts';
import type { TlsFiles } from '../tls-files.ts';
import { answeringBy } from './answer.ts';
import { bucketRoutes } from './bucket-routes.ts';
import { healthRoute } from './health.ts';
import { HttpCounts } from './metrics.ts';
import { narRoutes } from './nar-routes.ts';
import { NarSender } from './nar-sender.ts';
import { narInfoRoutes } from './narinfo.ts';
import type { Route } from './router.ts';
import { serveHttp } from './server.ts';
import { sideFileRoute } from './side-files.ts';

export interface NarBridgeOptions {
  readonly store: OpenedStore;
  readonly listen: ListenAddress;
  readonly ownership: SocketOwnership;
  readonly access: AccessRule;
  /** Gives what a new connection is served with over TLS. */
  readonly tls?: (() => TlsFiles) | undefined;
  /** Rank among caches: Nix asks those with lower numbers first. */
  readonly priority: number;
  /** Whether NARs are compressed on the way for clients that ask for it. */
  readonly compress: boolean;
  /** What requests and answers may take, in bytes; see `Budget`. */
  readonly maxMemory?: number | undefined;
  /** What is served is signed with them. */
  readonly keys: readonly SecretKey[];
}

/** Serves a store as a binary cache for Nix. */
export async function serveNarBridge(options: NarBridgeOptions): Promise<RunningServer> {
  const { store, access, listen, ownership, tls, maxMemory } = options;
  const tables = new UploadTables(store.records());
  if (store.local) nameRottenPaths(store.local);
  const health = new HealthCheck();
  health.begin(examinedStore(store));
  const counts = new HttpCounts();
  const connections = new ConnectionCounts<Socket>();
  const metrics = [...counts.metrics(), ...connections.metrics('http')];
  let exposition: Promise<Exposition> | undefined;
  const told = () => {
    exposition ??= Exposition.load([...metrics, ...localStoreMetrics(store.records()), ...farStoreMetrics()]);
    return exposition;
  };
  const sender = new NarSender(store, tables, options.compress);
  const signer = new ServingSigner(store, options.keys);
  const routes = [
    ...narInfoRoutes(store, tables, signer),
    ...narRoutes(store, tables, sender),
    ...bucketRoutes(store, signer),
    sideFileRoute(new SideFiles(store, tables.store), store.paths),
    ...otherRoutes(options.priority),
    healthRoute(health),
    metricsRoute(told),
  ];
  const handle = answeringBy(routes, access, (exchange) => counts.begin(exchange));
  return { ...(await serveHttp({ listen, ownership, tls, handle, maxMemory, connections })), metrics };
}

function otherRoutes(priority: number): Route[] {
  const info = `StoreDir: ${STORE_DIR}\nWantMassQuery: 1\nPriority: ${priority}\n`;
  const text = (name: string, path: RegExp, type: string, body: string): Route => ({
    name,
    path,
    get: (exchange) => exchange.reply(200, type, body),
  });
  return [
    text('root', /^\/$/, 'text/plain', 'This is a binary cache for Nix, served by tvix-store nar-bridge.\n'),
    text('nix-cache-info', /^\/nix-cache-info$/, 'text/x-nix-cache-info', info),
  ];
}
