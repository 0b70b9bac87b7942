import { asBuffer } from '../util/bytes.ts';
import { encodeBase32 } from './base32.ts';
import type { NamedBytes } from './named-bytes.ts';
import { parseNamed } from './named-bytes.ts';
import type { StorePath } from './store-path.ts';
import { sortStorePaths } from './store-path.ts';

/** Bytes of a signature. */
export const SIGNATURE_LENGTH = 64;

/** Signatures of one store path: whoever checks them has work with each. */
export const MAX_SIGNATURES = 1000;

/** A signature of a store path by ed25519, 64 bytes, with the name of the key. */
export type Signature = NamedBytes;

/**
 * Behind the name of a key, in that of a signature over the castore root: a name of its own, so that whoever knows no such
 * signatures passes them on, or over.
 */
const CASTORE = '.castore';

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

/**
 * The text of a signature over the castore root. Whoever trusts its key may use the root before it has any content.
 * `root` is the encoded node, without a name. No fingerprint of Nix begins like it, so neither passes for the other.
 */
export function castoreFingerprint(
  { storePath, narSha256, narSize, references }: Signed,
  root: Uint8Array,
): string {
  const paths = sortStorePaths(references).map((path) => path.absolute());
  const node = asBuffer(root).toString('base64');
  const nar = `sha256:${encodeBase32(narSha256)};${narSize}`;
  return `castore-1;${storePath.absolute()};${node};${nar};${paths.join(',')}`;
}

/** The name of signatures over castore roots by the key of a name. */
export function castoreName(keyName: string): string {
  return `${keyName}${CASTORE}`;
}

/** The name of the key, of a signature over a castore root; `undefined` for any other. */
export function castoreKeyName({ name }: Pick<Signature, 'name'>): string | undefined {
  return name.endsWith(CASTORE) && name.length > CASTORE.length ? name.slice(0, -CASTORE.length) : undefined;
}
