import { LocalStore } from '../castore/local/store.ts';
import { NodeTable } from '../fs/node-table.ts';
import { prepareMountPoint } from '../fuse/mounting.ts';
import type { Store } from '../store/services.ts';
import type { Driver, DriverOptions, Serving } from './driver.ts';
import { Fetcher } from './fetch/fetcher.ts';
import { Keeper } from './fetch/keeper.ts';
import { HandOver } from './hand-over.ts';
import { kernelDriver } from './kernel-driver.ts';
import { nativeDriver } from './native-driver.ts';
import type { FetchStatistics } from './statistics.ts';

/** Nodes the kernel may know at once: 64 bytes each once used, 1 GiB of address space. */
const NODE_CAPACITY = 1 << 24;

export const DRIVERS = { kernel: kernelDriver, 'fuse-native': nativeDriver } satisfies Record<string, Driver>;
export type DriverName = keyof typeof DRIVERS;

export interface MountOptions extends DriverOptions {
  readonly mountPoint: string;
  readonly driver: DriverName;
  readonly store: Store;
  /** The store as a person named it. */
  readonly storeName: string;
  /** Where to keep what is fetched, if the store is not local. */
  readonly cacheDir: string;
  /** A read fails after this long without content, in milliseconds. */
  readonly timeoutMs: number;
  /** Serve what the cache holds, and ask nobody. */
  readonly offline: boolean;
  /** Serve nothing of a blob before the whole has been checked. */
  readonly verifyWhole: boolean;
}

/** A running mount. */
export interface Mount extends Serving {
  readonly mountPoint: string;
  fetched(): FetchStatistics;
}

/** Mounts a store. A local one is read directly; another's contents are fetched into a local cache. */
export async function mountStore(options: MountOptions): Promise<Mount> {
  const mountPoint = prepareMountPoint(options.mountPoint);
  const { store } = options;
  const local = options.offline
    ? LocalStore.open(options.cacheDir)
    : (store.local ?? LocalStore.open(options.cacheDir, 'cache'));
  let fetcher: Fetcher | undefined;
  let keeper: Keeper | undefined;
  const release = async () => {
    await fetcher?.close();
    await keeper?.close();
    if (local !== store.local) await local.close();
  };
  try {
    const handOver = new HandOver({
      timeoutMs: options.timeoutMs,
      fetch: (need, progress, signal) => fetcher!.fetch(need, progress, signal),
    });
    if (local !== store.local && !options.offline) {
      keeper = new Keeper(local, handOver, options.storeName);
      fetcher = new Fetcher(store, keeper, { verifyWhole: options.verifyWhole });
    }
    const serving = await DRIVERS[options.driver](options, {
      mountPoint,
      env: local.env,
      remote: fetcher !== undefined,
      handOver,
      nodes: NodeTable.allocate(NODE_CAPACITY),
    });
    const closed = serving.closed.then(() => {
      handOver.close();
      return release();
    });
    return {
      mountPoint,
      closed,
      async stop() {
        await serving.stop();
        await closed;
      },
      statistics: () => serving.statistics(),
      fetched: () => ({ ...(keeper?.fetched ?? { objects: 0, bytes: 0 }) }),
    };
  } catch (error) {
    await release();
    throw error;
  }
}
