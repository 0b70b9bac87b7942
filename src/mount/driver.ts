import type { ServeContext, ServedFileSystem, ServeOptions } from './serve-store.ts';

/** What a person may say of a mount. */
export interface DriverOptions extends Pick<ServeOptions, 'listRoot' | 'showXattr'> {
  readonly allowOther: boolean;
  /** Threads that serve the kernel. */
  readonly readers: number;
}

/** What a driver works with. */
export interface DriverContext extends ServeContext {
  /** Free for mounting, as the kernel names it. */
  readonly mountPoint: string;
}

/** Mounts, and serves from then on. */
export type Driver = (options: DriverOptions, context: DriverContext) => Promise<ServedFileSystem>;
