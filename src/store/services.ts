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
  /** Those paths of `paths` that need not be whole. */
  readonly signedRoots?: SignedRoots | undefined;
  /** Whether path infos are on another machine, so that asking first is cheaper than sending. */
  readonly far?: boolean | undefined;
  close(): Promise<void>;
}

/** A store that was opened by its addresses. */
export interface OpenedStore extends Store {
  /** The local store for what this machine has to note: the store itself, or the cache if that is elsewhere. */
  records(): LocalStore;
  /** The same, if it has been opened: what is here of the store. */
  here(): LocalStore | undefined;
}

/** Hears a part of a NAR that stands at this byte. Several attempts may be under way, each from the start. The part is lent. */
export type NarListener = (part: Uint8Array, offset: number, attempt: object) => void;

/** A path that stays where it is kept, whole, until it is released. */
export interface HeldPath {
  readonly info: PathInfo;
  release(): void;
}

/** Paths of which somebody who is trusted has signed the root, so that their contents may be read bit by bit. */
export interface SignedRoots {
  /** A path without its contents; `undefined` when there is none that is signed so, or not there for now. */
  pathInfo(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined>;
  /** What is here, and what can be had by castore. What cannot is not there, or DATA_LOSS: then fetch the path. */
  readonly contents: Contents;
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
   * A path with all its contents, which is fetched only if some of it is not here. Where it is kept nothing of it is
   * evicted before `release`. `undefined` when there is no such path.
   */
  held?(hash: Uint8Array, signal?: AbortSignal): Promise<HeldPath | undefined>;

  /**
   * Has a listener hear the NAR of a path as it comes, before any of it has been checked, until the function that this gives
   * is called. It asks for nothing by itself.
   */
  listen?(hash: Uint8Array, listener: NarListener): () => void;

  /**
   * A file that a binary cache has beside narinfos and NARs, as it has it: nothing of it has been checked. `undefined` when
   * there is none, or it cannot be had now. Until the signal fires it holds a connection.
   */
  sideFile?(name: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | undefined>;

  /**
   * Calls `onProgress` whenever something arrives, so that waiting for the rest is worth it, until the function that
   * this gives is called.
   */
  watch(onProgress: () => void): () => void;
}
