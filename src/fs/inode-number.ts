/**
 * Inode numbers. They follow from what a node is, not from when it was looked up, so they stay the same
 * when the kernel forgets a node and asks again, and after a restart: a file's from its content, that of a
 * directory or link from its place. With 63 bits, a collision is less likely than a failing disk.
 */

/** A 64-bit number in two halves, to be written without a bigint. */
export interface InodeNumber {
  inodeLow: number;
  inodeHigh: number;
}

const POSITIVE = 0x7fff_ffff;

/** From the first two words of its digest. */
export function fileInode(low: number, high: number, executable: boolean, out: InodeNumber): void {
  out.inodeLow = (executable ? ~low : low) >>> 0;
  out.inodeHigh = high & POSITIVE;
}

/** Of a directory or link in the root, from the first two words of the store path's hash. */
export function storePathInode(low: number, high: number, out: InodeNumber): void {
  out.inodeLow = mix(low, 0);
  out.inodeHigh = mix(high, 1) & POSITIVE;
}

/** Turns a directory's number into that of its child, a directory or link at this position. */
export function childInode(inode: InodeNumber, entry: number): void {
  const low = mix(inode.inodeLow, entry);
  inode.inodeHigh = mix(inode.inodeHigh ^ low, ~entry) & POSITIVE;
  inode.inodeLow = low;
}

function mix(value: number, salt: number): number {
  let hash = value ^ Math.imul(salt + 1, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 16), 0x7feb352d);
  hash = Math.imul(hash ^ (hash >>> 15), 0x846ca68b);
  return (hash ^ (hash >>> 16)) >>> 0;
}
