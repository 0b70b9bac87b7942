/**
 * Inode numbers. They follow from where a node is, not from when it was looked up, so they stay the same when the
 * kernel forgets a node and asks again, and after a restart. With 56 bits two of a million nodes have the same
 * number once in a hundred thousand mounts; and an overlay has the bits that it wants to tell its layers apart.
 * Within a directory they ascend with the names: programs that read files in the order of their numbers (cp, tar) read
 * them in the order of the listing, and are known for it.
 */

/** A 64-bit number in two halves, to be written without a bigint. */
export interface InodeNumber {
  inodeLow: number;
  inodeHigh: number;
}

/** Of the upper half. */
const HIGH_BITS = 0xff_ffff;

/** Of a node in the root, from the first two words of the store path's hash. */
export function storePathInode(low: number, high: number, out: InodeNumber): void {
  out.inodeLow = mix(low, 0);
  out.inodeHigh = mix(high, 1) & HIGH_BITS;
}

/** Turns a directory's number into that of its child at this position. */
export function childInode(inode: InodeNumber, entry: number): void {
  const first = mix(inode.inodeLow, 2);
  const low = (first + entry) >>> 0;
  const carry = low < first ? 1 : 0;
  inode.inodeHigh = (mix(inode.inodeHigh ^ first, 3) + carry) & HIGH_BITS;
  inode.inodeLow = low;
}

/** Makes a number fit into 32 bits, for programs that know no others. 0 is none, and 1 is the root. */
export function fold(inode: InodeNumber): void {
  const folded = (inode.inodeLow ^ inode.inodeHigh) >>> 0;
  inode.inodeLow = folded < FIRST_FOLDED ? folded + FIRST_FOLDED : folded;
  inode.inodeHigh = 0;
}

const FIRST_FOLDED = 2;

function mix(value: number, salt: number): number {
  let hash = value ^ Math.imul(salt + 1, 0x9e3779b1);
  hash = Math.imul(hash ^ (hash >>> 16), 0x7feb352d);
  hash = Math.imul(hash ^ (hash >>> 15), 0x846ca68b);
  return (hash ^ (hash >>> 16)) >>> 0;
}
