/**
 * Directories in each other in a tree of a store path, the root included, at the most: everywhere, so that what one part takes in
 * no other refuses.
 */
export const MAX_TREE_DEPTH = 1024;

/** From this many on, Nix of May 2026 and later refuses a tree. */
export const NIX_TREE_DEPTH = 64;
