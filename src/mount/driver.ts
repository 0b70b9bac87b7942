import type { MountOptions } from '../fuse/mount-options.ts';
import type { ServeContext, ServedFileSystem, ServeOptions } from './serve-store.ts';

/** Options of a mount, as a person sets them. */
export interface DriverOptions extends Pick<ServeOptions, 'listRoot' | 'showXattr' | 'owner'> {
  /** Options of mount(8), checked. */
  readonly mountOptions: MountOptions;
  /** Threads that serve the kernel. */
  readonly readers: number;
}

/** The surroundings of a driver. */
export interface DriverContext extends ServeContext {
  /** Free for mounting, as the kernel names it. */
  readonly mountPoint: string;
}

/** Mounts, and serves from then on. */
export type Driver = (options: DriverOptions, context: DriverContext) => Promise<ServedFileSystem>;
