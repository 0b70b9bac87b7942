import { Blake3Hasher, blake3 } from '@napi-rs/blake-hash';
import { asBuffer, toHex } from '../util/bytes.ts';
import { invalid } from '../util/errors.ts';

/** Length of a digest in bytes. */
export const DIGEST_LENGTH = 32;

/** A BLAKE3-256 digest: the name of a blob, a chunk or a directory. */
export class Digest {
  /** The 32 bytes. Not to be changed. */
  readonly bytes: Uint8Array;
  #hex: string | undefined;

  private constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** Takes the bytes over (they must not change afterwards). Throws INVALID_ARGUMENT for another length. */
  static of(bytes: Uint8Array): Digest {
    if (bytes.length !== DIGEST_LENGTH) {
      throw invalid(`invalid digest length: ${bytes.length}, want ${DIGEST_LENGTH}`);
    }
    return new Digest(bytes);
  }

  /** Reads `blake3-<base64>` (as `toString` prints it), the older `b3:<base64>`, or 64 hexadecimal digits. */
  static parse(text: string): Digest {
    const base64 = /^(?:blake3-|b3:)([A-Za-z0-9+/]{43}=)$/.exec(text)?.[1];
    if (base64) return new Digest(Buffer.from(base64, 'base64'));
    if (/^[0-9a-f]{64}$/.test(text)) return new Digest(Buffer.from(text, 'hex'));
    throw invalid(`not a digest: ${JSON.stringify(text)}, want blake3-<base64> or 64 hexadecimal digits`);
  }

  /** Digest of a byte string. */
  static hash(bytes: Uint8Array): Digest {
    // A hasher object would cost more than hashing a small file does.
    return new Digest(blake3(asBuffer(bytes)));
  }

  get hex(): string {
    this.#hex ??= toHex(this.bytes);
    return this.#hex;
  }

  equals(other: Digest): boolean {
    return this === other || asBuffer(this.bytes).equals(other.bytes);
  }

  toString(): string {
    return `blake3-${asBuffer(this.bytes).toString('base64')}`;
  }
}

let checker: Blake3Hasher | undefined;

/** Whether bytes are what a digest says. It makes no object for it: a thousand files a second would keep V8 clearing up. */
export function isDigestOf(digest: Uint8Array, bytes: Uint8Array): boolean {
  checker ??= new Blake3Hasher();
  checker.reset();
  checker.update(asBuffer(bytes));
  return checker.digest('hex') === toHex(digest);
}

/** Computes a digest piece by piece. */
export class DigestHasher {
  readonly #hasher = new Blake3Hasher();

  update(bytes: Uint8Array): this {
    this.#hasher.update(asBuffer(bytes));
    return this;
  }

  digest(): Digest {
    return Digest.of(this.#hasher.digestBuffer());
  }
}

/** Digest of no bytes: the empty blob and the empty directory. */
export const EMPTY_DIGEST = Digest.parse('af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262');
