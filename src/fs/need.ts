import { Digest } from '../castore/digest.ts';
import { encodeBase32 } from '../nix/base32.ts';
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
        /** The directories above it, the root of the store path first, and the entry of each; none for a file in the root. */
        readonly way: readonly DirectoryEntry[];
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
  way: readonly DirectoryEntry[],
): ContentNeed {
  return {
    key: `b${toHex(digest)}:${offset}+${length}`,
    kind: 'blob',
    storePath,
    digest,
    size,
    offset,
    length,
    way,
  };
}

/** A need in words, for a person. */
export function describeNeed(need: StoreNeed): string {
  if (need.kind === 'pathInfos') return 'the list of store paths';
  if (need.kind === 'pathInfo') return `store path ${encodeBase32(need.hash)}`;
  const what = `${Digest.of(need.digest)} in ${encodeBase32(need.storePath)}`;
  if (need.kind !== 'blob') return `directory ${what}`;
  return `bytes ${need.offset} to ${need.offset + need.length - 1} of file ${what}`;
}
