import { invalid } from '../util/errors.ts';
import type { HashAlgorithm } from './hash.ts';
import { Hash, isHashAlgorithm } from './hash.ts';

/**
 * How a content address was made: of a NAR (`fixed:r`), of a file's contents (`fixed`), or of a text with
 * references. In the order of the wire's enumeration (protos/tvix/store/v1/pathinfo.proto).
 */
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

/** A description of a store path's contents from which its name follows. */
export interface ContentAddress {
  readonly type: CaType;
  /** As long as the algorithm has it. */
  readonly digest: Uint8Array;
}

/** The algorithm that a type of content address ends in. */
export function caAlgorithm(type: CaType): HashAlgorithm {
  const algorithm = type.slice(type.lastIndexOf(':') + 1);
  if (!isHashAlgorithm(algorithm)) throw new Error(`no hash algorithm in ${type}`);
  return algorithm;
}

/** Reads `text:sha256:…` or `fixed:[r:]<algorithm>:…`, the digest in any base. Throws INVALID_ARGUMENT. */
export function parseContentAddress(text: string): ContentAddress {
  const [, method, rest] = /^(text:|fixed:(?:r:)?)(?!r:)([a-z0-9]+:.*)$/s.exec(text) ?? [];
  if (method === undefined) throw unknown(text);
  const hash = Hash.parse(rest!);
  const type = CA_TYPES.find((known) => known === method + hash.algorithm);
  if (!type) throw unknown(text);
  return { type, digest: hash.digest };
}

/** Kinds of newer Nixes that we cannot compute. */
const UNCOMPUTED = /^(?:fixed:git:|(?:fixed:(?:r:)?|text:)blake3:)/;

/** As `parseContentAddress`, but nothing for one of a kind that only Nix can compute. */
export function parseKnownContentAddress(text: string): ContentAddress | undefined {
  return UNCOMPUTED.test(text) ? undefined : parseContentAddress(text);
}

function unknown(text: string) {
  const shown = JSON.stringify(text.slice(0, 200));
  return invalid(
    `not a content address: ${shown}, want text:sha256:…, fixed:<algorithm>:… or fixed:r:<algorithm>:…`,
  );
}

/** As in a narinfo: the digest in base-32. */
export function printContentAddress({ type, digest }: ContentAddress): string {
  const algorithm = caAlgorithm(type);
  return type.slice(0, -algorithm.length) + Hash.of(algorithm, digest);
}
