/**
 * The shape of BLAKE3's tree over the groups of a blob, which follows from the blob's size alone: the left part of a
 * tree is the largest power of two that is smaller than the whole.
 *
 * An outboard holds the parents in pre-order (parent, left part, right part), each the chaining values of its two
 * children. So a tree of `count` groups takes `count - 1` parents that stand together.
 */

/** A leaf of the tree: this many bytes, the last may be shorter. */
export const GROUP_LENGTH = 16 << 10;
/** A chaining value, of a group or of a parent, in bytes. */
export const VALUE_LENGTH = 32;
/** A parent in an outboard, in bytes. */
export const PARENT_LENGTH = 2 * VALUE_LENGTH;

/** A part of the tree: groups that are under one parent, or one group. */
export interface Subtree {
  /** The first group, by number. */
  readonly first: number;
  /** How many groups. */
  readonly count: number;
  /** Where its parents begin in the outboard, in bytes. */
  readonly at: number;
}

/** The groups of a blob of so many bytes: at least one. */
export function groupCount(size: number): number {
  return Math.max(1, Math.ceil(size / GROUP_LENGTH));
}

/** Length of the outboard of a blob of so many bytes: 0.4 %, and nothing up to one group. */
export function outboardLength(size: number): number {
  return lengthOf(groupCount(size));
}

export function wholeTree(size: number): Subtree {
  return { first: 0, count: groupCount(size), at: 0 };
}

/** The two parts of a tree of more than one group. */
export function partsOf({ first, count, at }: Subtree): readonly [Subtree, Subtree] {
  const left = 2 ** Math.floor(Math.log2(count - 1));
  const inside = at + PARENT_LENGTH;
  return [
    { first, count: left, at: inside },
    { first: first + left, count: count - left, at: inside + lengthOf(left) },
  ];
}

/** What the parents of so many groups take, in bytes. */
export function lengthOf(count: number): number {
  return (count - 1) * PARENT_LENGTH;
}
