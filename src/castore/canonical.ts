/**
 * Attributes that every node of a Nix store has, so that no node has to carry them: what Nix makes of a path when it
 * registers it. An export writes them, and a mount shows them.
 */

/** Permission bits by kind of node. */
export const PERMISSIONS = { directory: 0o555, file: 0o444, executable: 0o555, symlink: 0o777 } as const;

/** The time of everything, in seconds since 1970. */
export const MTIME = 1;
