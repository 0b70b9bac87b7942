import { printContentAddress } from '../../nix/content-address.ts';
import { Hash } from '../../nix/hash.ts';
import type { PublicKey } from '../../nix/key.ts';
import { asBuffer } from '../../util/bytes.ts';
import { messageOf, StoreError } from '../../util/errors.ts';
import { calculateNar } from '../nar/calculate.ts';
import type { PathDescription, PathInfo } from '../path-info/path-info.ts';
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
    if (!(error instanceof StoreError) || error.code !== 'DATA_LOSS') throw error;
    return [messageOf(error)];
  }
}

/** Says what is wrong with a path info by itself: its content address must give its path. */
export function addressProblems(info: PathDescription): string[] {
  if (!info.ca || isAddressOfPath(info)) return [];
  return [`its path does not follow from ${printContentAddress(info.ca)}`];
}

/** Whether a signature of a path info is by one of these keys. */
export function isSignedBy(info: PathDescription, keys: readonly PublicKey[]): boolean {
  return keys.some((key) => info.signatures.some((signature) => key.verify(info, signature)));
}
