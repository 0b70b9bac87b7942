import type { BlobService } from '../castore/blob/service.ts';
import type { DirectoryService } from '../castore/directory/service.ts';
import type { LocalStore } from '../castore/local/store.ts';
import type { PathInfoService } from './path-info/service.ts';

/** The three services that make a store. */
export interface Services {
  readonly blobs: BlobService;
  readonly directories: DirectoryService;
  readonly pathInfos: PathInfoService;
}

/** What path infos refer to. */
export type Contents = Pick<Services, 'blobs' | 'directories'>;

/** An opened store. */
export interface Store extends Services {
  /** Set when all three services are those of one local store. */
  readonly local?: LocalStore;
  /** Whether path infos are on another machine, so that asking first is cheaper than sending. */
  readonly far?: boolean;
  close(): Promise<void>;
}
