import { toHex } from '../util/bytes.ts';
import type { Need } from './file-system.ts';

/**
 * Something to be fetched. Contents come with the hash of the store path through which they were reached: a
 * binary cache cannot give a blob by its digest alone.
 */
export type StoreNeed = Need &
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
        /** Where a reader probably came upon it. */
        readonly foundAt?: DirectoryEntry | undefined;
      }
  );

/** An entry of a directory. */
export interface DirectoryEntry {
  readonly directory: Uint8Array;
  readonly entry: number;
}

export function needPathInfo(hash: Uint8Array): StoreNeed {
  return { key: `p${toHex(hash)}`, kind: 'pathInfo', hash };
}

export const needPathInfos: StoreNeed = { key: 'l', kind: 'pathInfos' };

export function needDirectory(storePath: Uint8Array, digest: Uint8Array): StoreNeed {
  return { key: `d${toHex(digest)}`, kind: 'directory', storePath, digest };
}

export function needBlob(
  storePath: Uint8Array,
  digest: Uint8Array,
  size: number,
  offset: number,
  length: number,
  foundAt?: DirectoryEntry,
): StoreNeed {
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
