import { readdirSync, readlinkSync, realpathSync } from 'node:fs';
import { basename, dirname } from 'node:path';
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
    const hidden = openFiles(basename(context.env.databasePath)).find((path) => isWithin(path, mountPoint));
    if (hidden !== undefined)
      throw new StoreError(
        'FAILED_PRECONDITION',
        `${dirname(hidden)} would be hidden by what is mounted on ${mountPoint}; mount elsewhere, or have the data elsewhere`,
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

/** The paths of files of this name that this process has open: of databases, those of all stores and caches. */
function openFiles(name: string): string[] {
  return readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        // The one by which these are listed.
        return '';
      }
    })
    .filter((path) => basename(path) === name);
}

/** Whether a path leads to a directory, or into it. */
function isWithin(path: string, directory: string): boolean {
  return `${realpathSync(path)}/`.startsWith(directory === '/' ? directory : `${directory}/`);
}
