import type { BlobService } from '../castore/blob/service.ts';
import type { DirectoryService } from '../castore/directory/service.ts';
import type { LocalStore } from '../castore/local/store.ts';
import type { Node } from '../castore/node.ts';
import type { ObjectStore } from '../castore/objects/object-store.ts';
import type { PathInfo } from './path-info/path-info.ts';
import type { PathInfoService } from './path-info/service.ts';

/** The three services that make a store. */
export interface Services {
  readonly blobs: BlobService;
  readonly directories: DirectoryService;
  readonly pathInfos: PathInfoService;
}

export type ServiceName = keyof Services;

/** The services that hold the contents of store paths. */
export type Contents = Pick<Services, 'blobs' | 'directories'>;

/**
 * The purpose for which a store is opened: only one that may be written to is made where there is none, and not to
 * `change` what is there. `serve` is for writing on behalf of others, who do not say when they are done. One that is filled keeps copies of what another
 * has; where there is none, it becomes a cache.
 */
export type Use = 'read' | 'change' | 'write' | 'serve' | 'fill';

/** A bucket with the services of a store. */
export interface Bucket {
  readonly objects: ObjectStore;
  /**
   * Whether all of a tree is there; then no collection takes it for as long as an upload lasts. Throws UNAVAILABLE where
   * one might.
   */
  keep(root: Node, signal?: AbortSignal): Promise<boolean>;
}

/** An opened store. */
export interface Store extends Services {
  /** Set when all three services are those of one local store. */
  readonly local?: LocalStore | undefined;
  /** Set when all three services are those of one bucket, or of what is laid out like one. */
  readonly bucket?: Bucket | undefined;
  /** The source of contents, when they come by whole store paths only. */
  readonly paths?: PathSource | undefined;
  /** Whether path infos are on another machine, so that asking first is cheaper than sending. */
  readonly far?: boolean | undefined;
  close(): Promise<void>;
}

/** A store that was opened by its addresses. */
export interface OpenedStore extends Store {
  /** The local store for what this machine has to note: the store itself, or the cache if that is elsewhere. */
  records(): LocalStore;
}

/** Gives store paths whole or not at all, as a binary cache does. */
export interface PathSource {
  /**
   * Brings a path into the blob and directory services, then its path info, even if that is there: a part of
   * the contents may have gone. `undefined` when there is no such path. It goes on when the signal fires, for
   * whoever asks next.
   */
  fetch(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined>;

  /**
   * Calls `onProgress` whenever something arrives, so that waiting for the rest is worth it, until the function that
   * this gives is called.
   */
  watch(onProgress: () => void): () => void;
}
