/**
 * The public API: what a program may import from `tvix-store`. See docs/api.md. Importing it changes nothing in the
 * process; the parts for mounting and serving are loaded when they are asked for.
 */
export type { Mount, MountOptions, Server } from './api/served.ts';
export type { Entry, ImportOptions, OpenOptions, ReadOptions, RealiseOptions } from './api/store.ts';
export { Store } from './api/store.ts';
export { Digest } from './castore/digest.ts';
export type { DirectoryNode, FileNode, Node, SymlinkNode, SymlinkTarget } from './castore/node.ts';
export type { CaType, ContentAddress } from './nix/content-address.ts';
export type { Signature } from './nix/signature.ts';
export { StorePath } from './nix/store-path.ts';
export type { PathInfo } from './store/path-info/path-info.ts';
export type { Code } from './util/errors.ts';
export { StoreError } from './util/errors.ts';
export type { Level } from './util/log.ts';
export { setLogLevel } from './util/log.ts';
