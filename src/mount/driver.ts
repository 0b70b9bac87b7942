import type { Environment } from '../castore/local/environment.ts';
import type { HandOver } from './hand-over.ts';
import type { MountStatistics } from './statistics.ts';

/** What a person may say of a mount. */
export interface DriverOptions {
  readonly listRoot: boolean;
  readonly showXattr: boolean;
  readonly allowOther: boolean;
  /** Threads that serve the kernel. */
  readonly readers: number;
}

/** What a driver works with. */
export interface DriverContext {
  /** Free for mounting, as the kernel names it. */
  readonly mountPoint: string;
  /** The local store that is read. */
  readonly env: Environment;
  /** Whether what is not local can be had through `handOver`. */
  readonly remote: boolean;
  readonly handOver: HandOver;
  /** Memory of the node table. */
  readonly nodes: SharedArrayBuffer;
}

/** Mounts, and serves from then on. */
export type Driver = (options: DriverOptions, context: DriverContext) => Promise<Serving>;

/** A file system that is being served. */
export interface Serving {
  /** Resolves when it has been unmounted, by `stop` or by somebody else. */
  readonly closed: Promise<void>;
  /** Unmounts; resolves when the kernel is no longer served. */
  stop(): Promise<void>;
  statistics(): MountStatistics;
}
