import { asBuffer, toHex } from '../util/bytes.ts';
import { invalid } from '../util/errors.ts';
import { lazyPackage } from '../util/lazy.ts';
import { base32Length, decodeBase32, encodeBase32 } from './base32.ts';
import { base64Length, decodeBase64, decodeSriBase64 } from './base64.ts';

const crypto = lazyPackage<typeof import('node:crypto')>('node:crypto');

/** Length of a digest by algorithm, in bytes. */
export const HASH_LENGTHS = { md5: 16, sha1: 20, sha256: 32, sha512: 64 } as const;
export type HashAlgorithm = keyof typeof HASH_LENGTHS;

/** A hash as Nix writes it: the algorithm and the digest. */
export class Hash {
  readonly algorithm: HashAlgorithm;
  readonly digest: Uint8Array;

  private constructor(algorithm: HashAlgorithm, digest: Uint8Array) {
    this.algorithm = algorithm;
    this.digest = digest;
  }

  /** Throws INVALID_ARGUMENT for a digest of the wrong length. */
  static of(algorithm: HashAlgorithm, digest: Uint8Array): Hash {
    const want = HASH_LENGTHS[algorithm];
    if (digest.length !== want) {
      throw invalid(`invalid ${algorithm} hash: ${digest.length} bytes, want ${want}`);
    }
    return new Hash(algorithm, digest);
  }

  /** The hash of these bytes. */
  static compute(algorithm: HashAlgorithm, bytes: Uint8Array): Hash {
    return new Hash(algorithm, crypto().createHash(algorithm).update(bytes).digest());
  }

  /**
   * Reads `<algorithm>:<digest>`, the digest in base-16, base-32 or base-64, which its length tells, or the SRI
   * form `<algorithm>-<base-64>`. Throws INVALID_ARGUMENT.
   */
  static parse(text: string): Hash {
    const shown = JSON.stringify(text.slice(0, 200));
    const [, algorithm, separator, digest] = /^([a-z0-9]+)([:-])(.*)$/s.exec(text) ?? [];
    if (digest === undefined || !isHashAlgorithm(algorithm!)) {
      throw invalid(`not a hash: ${shown}, want md5, sha1, sha256 or sha512, a colon and the digest`);
    }
    try {
      const length = HASH_LENGTHS[algorithm];
      const decode = separator === '-' ? decodeSriBase64 : decodeDigest;
      return new Hash(algorithm, decode(digest, length));
    } catch (error) {
      throw invalid(`not a hash: ${shown}`, { cause: error });
    }
  }

  /** `<algorithm>:<base-32>`, the form that Nix writes. */
  toString(): string {
    return `${this.algorithm}:${encodeBase32(this.digest)}`;
  }

  /** `<algorithm>:<base-16>`. */
  toBase16(): string {
    return `${this.algorithm}:${toHex(this.digest)}`;
  }

  /** `<algorithm>:<base-64>`. */
  toBase64(): string {
    return `${this.algorithm}:${asBuffer(this.digest).toString('base64')}`;
  }

  /** `<algorithm>-<base-64>`, as in integrity attributes of the web. */
  toSri(): string {
    return `${this.algorithm}-${asBuffer(this.digest).toString('base64')}`;
  }

  equals(other: Hash): boolean {
    return this.algorithm === other.algorithm && asBuffer(this.digest).equals(other.digest);
  }
}

export function isHashAlgorithm(text: string): text is HashAlgorithm {
  return Object.hasOwn(HASH_LENGTHS, text);
}

/** Reads a digest of `length` bytes in any base; no two of them have the same number of characters. */
function decodeDigest(text: string, length: number): Uint8Array {
  switch (text.length) {
    case length * 2:
      if (!/^[0-9a-fA-F]*$/.test(text)) throw invalid('invalid base-16');
      return Buffer.from(text, 'hex');
    case base32Length(length):
      return decodeBase32(text);
    case base64Length(length):
      return decodeBase64(text, length);
    default:
      throw invalid(`${text.length} characters are no digest of ${length} bytes`);
  }
}
