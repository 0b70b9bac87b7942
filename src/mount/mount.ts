import { realpathSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { claimMountPoint, prepareMountPoint } from '../fuse/mount-point.ts';
import { doWithoutThreads } from '../util/async/thread.ts';
import { StoreError } from '../util/errors.ts';
import { openDescriptors } from '../util/system/descriptors.ts';
import type { Driver, DriverOptions } from './driver.ts';
import { kernelDriver } from './kernel-driver.ts';
import { nativeDriver } from './native-driver.ts';
import type { ServedStore, ServeOptions } from './serve-store.ts';
import { serveStore } from './serve-store.ts';

export const DRIVERS = { kernel: kernelDriver, 'fuse-native': nativeDriver } satisfies Record<string, Driver>;
export type DriverName = keyof typeof DRIVERS;

/** What a mount asks the kernel by. */
const NEEDED = ['/proc/self', '/dev/fuse'];

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
    refuseToHide(mountPoint, basename(context.env.databasePath));
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

/** Throws FAILED_PRECONDITION when a mount would hide what serves it: a database of this name, or what the kernel tells. */
function refuseToHide(mountPoint: string, database: string): void {
  const refused = (what: string, instead: string) =>
    new StoreError(
      'FAILED_PRECONDITION',
      `${what} would be hidden by what is mounted on ${mountPoint}; ${instead}`,
    );
  for (const path of [...openDescriptors().values()].filter((path) => basename(path) === database)) {
    if (isWithin(path, mountPoint))
      throw refused(dirname(path), 'mount elsewhere, or have the data elsewhere');
  }
  for (const path of NEEDED) if (isWithin(path, mountPoint)) throw refused(path, 'mount elsewhere');
}

/** Whether a path leads to a directory, or into it. */
function isWithin(path: string, directory: string): boolean {
  return `${realpathSync(path)}/`.startsWith(directory === '/' ? directory : `${directory}/`);
}
