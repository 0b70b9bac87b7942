import type { Name, SymlinkTarget } from '../node.ts';

/**
 * Follows a tree while it is read, depth first and in the order of names: what a hash over an archive of
 * the tree needs, without reading anything twice.
 */
export interface TreeObserver {
  beginDirectory(): void;
  /** The next node seen is this child of the current directory; `endEntry` follows it. */
  beginEntry(name: Name): void;
  endEntry(): void;
  endDirectory(): void;
  /** Its contents follow, in parts of together `size` bytes. Parts are only valid during the call. */
  beginFile(size: number, executable: boolean): void;
  contents(bytes: Uint8Array): void;
  endFile(): void;
  symlink(target: SymlinkTarget): void;
}
