import { prepareMountPoint } from '../fuse/mounting.ts';
import type { Driver, DriverOptions } from './driver.ts';
import { kernelDriver } from './kernel-driver.ts';
import { nativeDriver } from './native-driver.ts';
import type { ServedStore, ServeOptions } from './serve-store.ts';
import { serveStore } from './serve-store.ts';

export const DRIVERS = { kernel: kernelDriver, 'fuse-native': nativeDriver } satisfies Record<string, Driver>;
export type DriverName = keyof typeof DRIVERS;

export interface MountOptions extends DriverOptions, ServeOptions {
  readonly mountPoint: string;
  readonly driver: DriverName;
}

/** A running mount. */
export interface Mount extends ServedStore {
  readonly mountPoint: string;
}

/** Mounts a store. */
export async function mountStore(options: MountOptions): Promise<Mount> {
  const mountPoint = prepareMountPoint(options.mountPoint);
  const served = await serveStore(options, (context) =>
    DRIVERS[options.driver](options, { ...context, mountPoint }),
  );
  return { ...served, mountPoint };
}
