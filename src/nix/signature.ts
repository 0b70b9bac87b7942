import { encodeBase32 } from './base32.ts';
import type { NamedBytes } from './named-bytes.ts';
import { parseNamed } from './named-bytes.ts';
import type { StorePath } from './store-path.ts';
import { sortStorePaths } from './store-path.ts';

/** Bytes of a signature. */
export const SIGNATURE_LENGTH = 64;

/** A signature of a store path by ed25519, 64 bytes, with the name of the key. */
export type Signature = NamedBytes;

/** The values that a signature is made over. */
export interface Signed {
  readonly storePath: StorePath;
  readonly narSha256: Uint8Array;
  readonly narSize: bigint;
  readonly references: readonly StorePath[];
}

/** Reads `name:base64`. Throws INVALID_ARGUMENT. */
export function parseSignature(text: string): Signature {
  return parseNamed(text, SIGNATURE_LENGTH, 'signature');
}

/**
 * The text that is signed, as Nix makes it: the order in which references are kept, and how often each of them
 * is, does not matter.
 */
export function fingerprint({ storePath, narSha256, narSize, references }: Signed): string {
  const paths = sortStorePaths(references).map((path) => path.absolute());
  return `1;${storePath.absolute()};sha256:${encodeBase32(narSha256)};${narSize};${paths.join(',')}`;
}
