import type { Node } from '../../castore/node.ts';
import type { StorePath } from '../../nix/store-path.ts';

/** How a content address was made; the wire's enumeration (protos/tvix/store/v1/pathinfo.proto). */
export const CA_TYPES = [
  'fixed:r:sha256',
  'fixed:r:sha1',
  'fixed:r:sha512',
  'fixed:r:md5',
  'text:sha256',
  'fixed:sha1',
  'fixed:md5',
  'fixed:sha256',
  'fixed:sha512',
] as const;
export type CaType = (typeof CA_TYPES)[number];

/** Length of a digest by algorithm, in bytes. */
export const HASH_LENGTHS: Record<string, number> = { md5: 16, sha1: 20, sha256: 32, sha512: 64 };

export interface ContentAddress {
  readonly type: CaType;
  readonly digest: Uint8Array;
}

export interface Signature {
  /** Name of the key. */
  readonly name: string;
  /** ed25519, 64 bytes. */
  readonly data: Uint8Array;
}

/** What is known of a store path: its contents and what Nix keeps of it. */
export interface PathInfo {
  readonly storePath: StorePath;
  /** Root of the contents. */
  readonly node: Node;
  readonly references: readonly StorePath[];
  /** Length of the NAR in bytes. */
  readonly narSize: bigint;
  readonly narSha256: Uint8Array;
  readonly signatures: readonly Signature[];
  /** The derivation, without its `.drv`. */
  readonly deriver?: StorePath;
  readonly ca?: ContentAddress;
}
