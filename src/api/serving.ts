import type { OpenedStore } from '../store/services.ts';
import { parseListenAddress } from '../util/listen-address.ts';
import type { Mount, MountOptions, Server } from './served.ts';

/** A read in a mount fails when nothing has arrived for this long. */
const READ_TIMEOUT_MS = 30_000;
/** Among binary caches; cache.nixos.org has 40, and a lower number is preferred. */
const PRIORITY = 39;

export async function serveMount(
  store: OpenedStore,
  directory: string,
  { listRoot = false, allowOther = false }: MountOptions,
  where: { readonly storeName: string; readonly cacheDir: string },
): Promise<Mount> {
  const { mountStore } = await import('../mount/mount.ts');
  const mount = await mountStore({
    ...where,
    store,
    mountPoint: directory,
    driver: 'kernel',
    readers: 1,
    listRoot,
    mountOptions: { source: 'tvix-store', others: allowOther ? ['allow_other'] : [] },
    showXattr: false,
    timeoutMs: READ_TIMEOUT_MS,
    offline: false,
    verifyWhole: false,
  });
  return { directory: mount.mountPoint, closed: mount.closed, stop: () => mount.stop() };
}

export async function serveDaemon(store: OpenedStore, listenAddress: string): Promise<Server> {
  const { serveGrpc } = await import('../server/grpc/server.ts');
  return serveGrpc({ store, ...(await listening(listenAddress)) });
}

export async function serveNarBridge(store: OpenedStore, listenAddress: string): Promise<Server> {
  const { serveNarBridge: serve } = await import('../server/http/nar-bridge.ts');
  return serve({ store, ...(await listening(listenAddress)), priority: PRIORITY, compress: false, keys: [] });
}

async function listening(listenAddress: string) {
  const { AccessRule } = await import('../server/access/rule.ts');
  return { listen: parseListenAddress(listenAddress), ownership: {}, access: new AccessRule() };
}
