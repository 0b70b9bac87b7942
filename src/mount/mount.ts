import { CacheFiller } from '../castore/local/filler.ts';
import { LocalStore } from '../castore/local/store.ts';
import { NodeTable } from '../fs/node-table.ts';
import { prepareMountPoint } from '../fuse/mounting.ts';
import type { Store } from '../store/store.ts';
import type { Driver, DriverOptions, Serving } from './driver.ts';
import { Fetcher } from './fetcher.ts';
import { HandOver } from './hand-over.ts';
import { kernelDriver } from './kernel-driver.ts';
import { nativeDriver } from './native-driver.ts';

/** Nodes the kernel may know at once: 64 bytes each once used, 1 GiB of address space. */
const NODE_CAPACITY = 1 << 24;

export const DRIVERS = { kernel: kernelDriver, 'fuse-native': nativeDriver } satisfies Record<string, Driver>;
export type DriverName = keyof typeof DRIVERS;

export interface MountOptions extends DriverOptions {
  readonly mountPoint: string;
  readonly driver: DriverName;
  readonly store: Store;
  /** Where to keep what is fetched, if the store is not local. */
  readonly cacheDir: string;
  /** A read fails after this long without content, in milliseconds. */
  readonly timeoutMs: number;
}

/** A running mount. */
export interface Mount extends Serving {
  readonly mountPoint: string;
}

/** Mounts a store. A local one is read directly; another's contents are fetched into a local cache. */
export async function mountStore(options: MountOptions): Promise<Mount> {
  const mountPoint = prepareMountPoint(options.mountPoint);
  const { store } = options;
  const local = store.local ?? LocalStore.open(options.cacheDir, 'cache');
  const filler = store.local ? undefined : new CacheFiller(local.env);
  const release = async () => {
    filler?.close();
    if (!store.local) await local.close();
  };
  try {
    const handOver: HandOver = new HandOver({
      timeoutMs: options.timeoutMs,
      fetch: (need, signal) => fetcher!.fetch(need, signal),
    });
    const fetcher = filler && new Fetcher(store, local, filler, handOver);
    const serving = await DRIVERS[options.driver](options, {
      mountPoint,
      env: local.env,
      remote: fetcher !== undefined,
      handOver,
      nodes: NodeTable.allocate(NODE_CAPACITY),
    });
    const closed = serving.closed.then(release);
    return {
      mountPoint,
      closed,
      async stop() {
        await serving.stop();
        await closed;
      },
      statistics: () => serving.statistics(),
    };
  } catch (error) {
    await release();
    throw error;
  }
}
