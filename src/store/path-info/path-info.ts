import type { Node } from '../../castore/node.ts';
import type { ContentAddress } from '../../nix/content-address.ts';
import type { Signature } from '../../nix/signature.ts';
import type { StorePath } from '../../nix/store-path.ts';

/** Nix's description of a store path, without contents. */
export interface PathDescription {
  readonly storePath: StorePath;
  readonly references: readonly StorePath[];
  /** Length of the NAR in bytes. */
  readonly narSize: bigint;
  readonly narSha256: Uint8Array;
  readonly signatures: readonly Signature[];
  /** The derivation, without its `.drv`. */
  readonly deriver?: StorePath | undefined;
  readonly ca?: ContentAddress | undefined;
}

/** A store path as it is known here: its description and its contents. */
export interface PathInfo extends PathDescription {
  /** Root of the contents. */
  readonly node: Node;
}

/** Whether the contents are here, and not only described. */
export function hasContents(info: PathDescription): info is PathInfo {
  return 'node' in info;
}
