import { fingerprint, MAX_SIGNATURES, type Signature } from '../../nix/signature.ts';
import { asBuffer, latin1 } from '../../util/bytes.ts';
import { StoreError } from '../../util/errors.ts';
import { encodePathInfo } from './message.ts';
import type { PathDescription, PathInfo } from './path-info.ts';
import type { PathInfoService } from './service.ts';

/** A path info to be put over one that is there: where signatures say the same of both, it has those of both. */
export function united<T extends PathDescription>(present: PathDescription | undefined, info: T): T {
  if (!present || fingerprint(present) !== fingerprint(info)) return info;
  return { ...info, signatures: unitedSignatures(present.signatures, info.signatures) };
}

/** The signatures of both, each once; of too many, those that come first. */
export function unitedSignatures(some: readonly Signature[], others: readonly Signature[]): Signature[] {
  const all = new Map<string, Signature>();
  for (const one of [...some, ...others]) {
    const key = `${one.name}:${latin1(one.data)}`;
    if (!all.has(key)) all.set(key, one);
  }
  return [...all.values()].slice(0, MAX_SIGNATURES);
}

/** Puts a path info with no signatures besides its own. Throws UNIMPLEMENTED where that cannot be told. */
export function replacing(
  pathInfos: PathInfoService,
  info: PathInfo,
  signal?: AbortSignal,
): Promise<PathInfo> {
  if (pathInfos.replace) return pathInfos.replace(info, signal);
  throw new StoreError(
    'UNIMPLEMENTED',
    'signatures are taken away only where the store is: its protocol knows no way to do it from here',
  );
}

export function isSame(a: PathInfo, b: PathInfo): boolean {
  return asBuffer(encodePathInfo(a)).equals(encodePathInfo(b));
}
