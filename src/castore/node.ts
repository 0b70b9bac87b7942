import { printable } from '../util/bytes.ts';
import { invalid } from '../util/errors.ts';
import type { Digest } from './digest.ts';

declare const checked: unique symbol;

/** A child's name: 1 to 255 bytes, neither `.` nor `..`, without `/` and NUL. Not necessarily UTF-8. */
export type Name = Uint8Array & { readonly [checked]: 'Name' };

/** Where a symbolic link points: 1 to 4095 bytes without NUL. */
export type SymlinkTarget = Uint8Array & { readonly [checked]: 'SymlinkTarget' };

export const MAX_NAME_LENGTH = 255;
export const MAX_TARGET_LENGTH = 4095;

export interface DirectoryNode {
  readonly kind: 'directory';
  readonly digest: Digest;
  /** Number of elements below it, see `Directory.size`. */
  readonly size: bigint;
}

export interface FileNode {
  readonly kind: 'file';
  /** Digest of the contents. */
  readonly digest: Digest;
  /** Length of the contents in bytes. */
  readonly size: bigint;
  readonly executable: boolean;
}

export interface SymlinkNode {
  readonly kind: 'symlink';
  readonly target: SymlinkTarget;
}

/** The root of a tree, or a child in a directory. */
export type Node = DirectoryNode | FileNode | SymlinkNode;

/** Checks a name. Throws INVALID_ARGUMENT. */
export function parseName(bytes: Uint8Array): Name {
  const problem = nameProblem(bytes, 0, bytes.length);
  if (problem) throw invalid(`invalid name ${JSON.stringify(printable(bytes.subarray(0, 300)))}: ${problem}`);
  return bytes as Name;
}

/** Says what is wrong with the name in `bytes[start, end)`, if anything. */
export function nameProblem(bytes: Uint8Array, start: number, end: number): string | undefined {
  const length = end - start;
  if (length === 0) return 'it is empty';
  if (length > MAX_NAME_LENGTH) return `it is longer than ${MAX_NAME_LENGTH} bytes`;
  if (bytes[start] === 0x2e && (length === 1 || (length === 2 && bytes[start + 1] === 0x2e))) {
    return 'it is reserved';
  }
  for (let i = start; i < end; i++) {
    if (bytes[i] === 0x2f) return 'it contains a slash';
    if (bytes[i] === 0) return 'it contains a NUL byte';
  }
  return undefined;
}

/** Checks a link's target. Throws INVALID_ARGUMENT. */
export function parseSymlinkTarget(bytes: Uint8Array): SymlinkTarget {
  const problem = targetProblem(bytes, 0, bytes.length);
  if (problem) throw invalid(`invalid symlink target: ${problem}`);
  return bytes as SymlinkTarget;
}

/** Says what is wrong with the link target in `bytes[start, end)`, if anything. */
export function targetProblem(bytes: Uint8Array, start: number, end: number): string | undefined {
  if (end === start) return 'it is empty';
  if (end - start > MAX_TARGET_LENGTH) return `it is longer than ${MAX_TARGET_LENGTH} bytes`;
  // Not indexOf, which would search on to the end of all the entries.
  for (let i = start; i < end; i++) if (bytes[i] === 0) return 'it contains a NUL byte';
  return undefined;
}
