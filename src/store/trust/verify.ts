import { encodeRoot } from '../../castore/node-message.ts';
import { printContentAddress } from '../../nix/content-address.ts';
import { Hash } from '../../nix/hash.ts';
import type { PublicKey, SecretKey } from '../../nix/key.ts';
import type { Signature } from '../../nix/signature.ts';
import { castoreFingerprint, castoreName, fingerprint } from '../../nix/signature.ts';
import { asBuffer } from '../../util/bytes.ts';
import { isDamage, messageOf } from '../../util/errors.ts';
import { calculateNar } from '../nar/calculate.ts';
import type { PathDescription, PathInfo } from '../path-info/path-info.ts';
import { hasContents } from '../path-info/path-info.ts';
import type { Contents } from '../services.ts';
import { hasContentAddress, isAddressOfPath } from './content-address.ts';

/**
 * Lists the claims of a path info about its contents that are wrong: length and hash of the NAR, the content
 * address, and the path that follows from it. All contents are read. Throws only when they cannot be read now.
 */
export async function contentProblems(
  contents: Contents,
  info: PathInfo,
  signal?: AbortSignal,
): Promise<string[]> {
  try {
    const problems = addressProblems(info);
    const { narSize, narSha256 } = await calculateNar(contents, info.node, signal);
    if (narSize !== info.narSize) problems.push(`its NAR has ${narSize} bytes, not ${info.narSize}`);
    if (!asBuffer(narSha256).equals(info.narSha256)) {
      const [is, claimed] = [narSha256, info.narSha256].map((digest) => Hash.of('sha256', digest));
      problems.push(`its NAR has the hash ${is}, not ${claimed}`);
    }
    if (info.ca && !(await hasContentAddress(contents, { ...info, narSha256 }, info.ca, signal))) {
      problems.push(`its contents are not those of ${printContentAddress(info.ca)}`);
    }
    return problems;
  } catch (error) {
    if (!isDamage(error)) throw error;
    return [messageOf(error)];
  }
}

/** Says what is wrong with a path info by itself: its content address must give its path. */
export function addressProblems(info: PathDescription): string[] {
  if (!info.ca || isAddressOfPath(info)) return [];
  return [`its path does not follow from ${printContentAddress(info.ca)}`];
}

/** Whether a signature of a path info is Nix's, by one of these keys. It says nothing of the root. */
export function isSignedBy(info: PathDescription, keys: readonly PublicKey[]): boolean {
  // Made once, and only if there is reason to: with many references it is long.
  let bytes: Uint8Array | undefined;
  return keys.some((key) =>
    info.signatures.some((signature) => {
      if (signature.name !== key.name) return false;
      bytes ??= Buffer.from(fingerprint(info));
      return key.verifyBytes(bytes, signature);
    }),
  );
}

/** Whether a signature over the castore root is by one of these keys: then the path has these contents. */
export function isRootSignedBy(info: PathInfo, keys: readonly PublicKey[]): boolean {
  let bytes: Uint8Array | undefined;
  return keys.some((key) => {
    const name = castoreName(key.name);
    return info.signatures.some((signature) => {
      if (signature.name !== name) return false;
      bytes ??= Buffer.from(rootText(info));
      return key.verifyBytes(bytes, signature);
    });
  });
}

/** The text of a path info that is signed with its root. */
export function rootText(info: PathInfo): string {
  return castoreFingerprint(info, encodeRoot(info.node));
}

/** Whether a key has signed all that it can sign: what Nix checks, and the root if there is one. */
export function isFullySignedBy(info: PathDescription, key: PublicKey): boolean {
  return isSignedBy(info, [key]) && (!hasContents(info) || isRootSignedBy(info, [key]));
}

/** The signatures by a key: for Nix, and over the root. */
export function signaturesBy(key: SecretKey, info: PathInfo): Signature[] {
  return [key.sign(info), key.signRoot(info, encodeRoot(info.node))];
}

const MAX_SHOWN = 10;

/** Says of a path info that is refused whose signatures it has, and whose would count. */
export function untrusted(
  { storePath, signatures }: PathDescription,
  where: string,
  keys: readonly PublicKey[],
): string {
  const names = [...new Set(signatures.map(({ name }) => JSON.stringify(name)))];
  return (
    `${storePath.absolute()} of ${where} has no valid signature of a key that is trusted ` +
    `(trusted: ${keys.map(({ name }) => name).join(', ') || 'none'}; ` +
    `signatures: ${names.slice(0, MAX_SHOWN).join(', ') || 'none'})`
  );
}
