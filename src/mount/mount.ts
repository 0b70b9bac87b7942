import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { claimMountPoint, prepareMountPoint } from '../fuse/mount-point.ts';
import { doWithoutThreads } from '../util/async/thread.ts';
import { StoreError } from '../util/errors.ts';
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
  const mountPoint = await prepareMountPoint(options.mountPoint);
  const served = await serveStore(options, async (context) => {
    if (isWithin(context.env.dir, mountPoint))
      throw new StoreError(
        'FAILED_PRECONDITION',
        `${context.env.dir} would be hidden by what is mounted on ${mountPoint}; mount elsewhere, or have the data elsewhere`,
      );
    if (isWithin(fileURLToPath(import.meta.url), mountPoint)) doWithoutThreads();
    const release = await claimMountPoint(mountPoint);
    try {
      return await DRIVERS[options.driver](options, { ...context, mountPoint });
    } finally {
      release();
    }
  });
  return { ...served, mountPoint };
}

/** Whether a path leads to a directory, or into it. */
function isWithin(path: string, directory: string): boolean {
  return `${realpathSync(path)}/`.startsWith(directory === '/' ? directory : `${directory}/`);
}
