import type { Signature } from '../../nix/signature.ts';
import { asBuffer } from '../../util/bytes.ts';
import { encodePathInfo } from './message.ts';
import type { PathInfo } from './path-info.ts';

/** A path info to be put over one that is there: when they differ in their signatures only, it has those of both. */
export function united(present: PathInfo, info: PathInfo): PathInfo {
  if (!isSame({ ...present, signatures: [] }, { ...info, signatures: [] })) return info;
  return { ...present, signatures: unitedSignatures(present.signatures, info.signatures) };
}

/** The signatures of both, each once. */
export function unitedSignatures(some: readonly Signature[], others: readonly Signature[]): Signature[] {
  const isIn = (one: Signature) =>
    some.some(({ name, data }) => name === one.name && asBuffer(data).equals(one.data));
  return [...some, ...others.filter((one) => !isIn(one))];
}

export function isSame(a: PathInfo, b: PathInfo): boolean {
  return asBuffer(encodePathInfo(a)).equals(encodePathInfo(b));
}
