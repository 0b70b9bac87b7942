import { fingerprint, type Signature } from '../../nix/signature.ts';
import { asBuffer } from '../../util/bytes.ts';
import { StoreError } from '../../util/errors.ts';
import { encodePathInfo } from './message.ts';
import type { PathDescription, PathInfo } from './path-info.ts';
import type { PathInfoService } from './service.ts';

/** A path info to be put over one that is there: where signatures say the same of both, it has those of both. */
export function united<T extends PathDescription>(present: PathDescription | undefined, info: T): T {
  if (!present || fingerprint(present) !== fingerprint(info)) return info;
  return { ...info, signatures: unitedSignatures(present.signatures, info.signatures) };
}

/** The signatures of both, each once. */
export function unitedSignatures(some: readonly Signature[], others: readonly Signature[]): Signature[] {
  const all = [...some];
  for (const one of others)
    if (!all.some(({ name, data }) => name === one.name && asBuffer(data).equals(one.data))) all.push(one);
  return all;
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
