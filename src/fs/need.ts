import { toHex } from '../util/bytes.ts';
import type { Need } from './file-system.ts';

/**
 * Content that is not local. It comes with the hash of the store path through which it was reached: a binary cache
 * cannot give a blob by its digest alone.
 */
export type ContentNeed = Need &
  (
    | { readonly kind: 'pathInfo'; readonly hash: Uint8Array }
    | { readonly kind: 'pathInfos' }
    | { readonly kind: 'directory'; readonly storePath: Uint8Array; readonly digest: Uint8Array }
    | {
        readonly kind: 'blob';
        readonly storePath: Uint8Array;
        readonly digest: Uint8Array;
        /** Length of the blob, and the part that is wanted, in bytes. */
        readonly size: number;
        readonly offset: number;
        readonly length: number;
        /** Where it is, unless in the root. */
        readonly foundAt?: DirectoryEntry | undefined;
      }
  );

/** A large directory that is local, decoded. */
export interface IndexNeed extends Need {
  readonly kind: 'index';
  readonly storePath: Uint8Array;
  readonly digest: Uint8Array;
}

/** What a thread that serves the kernel does not have. */
export type StoreNeed = ContentNeed | IndexNeed;

/** An entry of a directory. */
export interface DirectoryEntry {
  readonly directory: Uint8Array;
  readonly entry: number;
}

export function needPathInfo(hash: Uint8Array): ContentNeed {
  return { key: `p${toHex(hash)}`, kind: 'pathInfo', hash };
}

export const needPathInfos: ContentNeed = { key: 'l', kind: 'pathInfos' };

export function needDirectory(storePath: Uint8Array, digest: Uint8Array): ContentNeed {
  return { key: `d${toHex(digest)}`, kind: 'directory', storePath, digest };
}

export function needIndex(storePath: Uint8Array, digest: Uint8Array): IndexNeed {
  return { key: `i${toHex(digest)}`, kind: 'index', storePath, digest };
}

export function needBlob(
  storePath: Uint8Array,
  digest: Uint8Array,
  size: number,
  offset: number,
  length: number,
  foundAt?: DirectoryEntry,
): ContentNeed {
  return {
    key: `b${toHex(digest)}:${offset}+${length}`,
    kind: 'blob',
    storePath,
    digest,
    size,
    offset,
    length,
    foundAt,
  };
}
