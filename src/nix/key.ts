import type { KeyObject } from 'node:crypto';
import { asBuffer } from '../util/bytes.ts';
import { invalid } from '../util/errors.ts';
import { lazyPackage } from '../util/lazy.ts';
import { isKeyName, parseNamed, printNamed } from './named-bytes.ts';
import type { Signature, Signed } from './signature.ts';
import {
  castoreFingerprint,
  castoreKeyName,
  castoreName,
  fingerprint,
  SIGNATURE_LENGTH,
} from './signature.ts';

const crypto = lazyPackage<typeof import('node:crypto')>('node:crypto');

const SEED_LENGTH = 32;
const PUBLIC_LENGTH = 32;
/** Bytes that stand before an ed25519 key in its DER form (RFC 8410). */
const PRIVATE_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');
const PUBLIC_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

/** Checks signatures of one name. */
export class PublicKey {
  readonly name: string;
  /** 32 bytes. */
  readonly data: Uint8Array;
  readonly #key: KeyObject;

  private constructor(name: string, data: Uint8Array) {
    this.name = name;
    this.data = data;
    const der = Buffer.concat([PUBLIC_PREFIX, data]);
    this.#key = crypto().createPublicKey({ key: der, format: 'der', type: 'spki' });
  }

  /** Reads `name:base64`. Throws INVALID_ARGUMENT. */
  static parse(text: string): PublicKey {
    const { name, data } = parseNamed(text.trim(), PUBLIC_LENGTH, 'public key');
    return new PublicKey(name, data);
  }

  /** Reads the keys in a list, with white space between them: `trusted-public-keys`. Throws INVALID_ARGUMENT. */
  static parseList(text: string): PublicKey[] {
    return text.split(/\s+/).filter(Boolean).map(PublicKey.parse);
  }

  toString(): string {
    return printNamed(this);
  }

  /** Whether this signature is by this key, and of this. */
  verify(signed: Signed, signature: Signature): boolean {
    return signature.name === this.name && this.verifyBytes(Buffer.from(fingerprint(signed)), signature);
  }

  /** Whether this is the signature of these bytes, whatever its name. */
  verifyBytes(bytes: Uint8Array, { data }: Signature): boolean {
    return data.length === SIGNATURE_LENGTH && crypto().verify(null, bytes, this.#key, data);
  }
}

/** Signs, under one name. */
export class SecretKey {
  readonly publicKey: PublicKey;
  readonly #seed: Uint8Array;
  readonly #key: KeyObject;

  private constructor(name: string, seed: Uint8Array) {
    if (castoreKeyName({ name }) !== undefined)
      throw invalid(
        `the name of a key cannot be ${JSON.stringify(name)}: such are those of castore signatures`,
      );
    const der = Buffer.concat([PRIVATE_PREFIX, seed]);
    this.#seed = seed;
    this.#key = crypto().createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    const data = crypto()
      .createPublicKey(this.#key)
      .export({ format: 'der', type: 'spki' })
      .subarray(-PUBLIC_LENGTH);
    this.publicKey = PublicKey.parse(printNamed({ name, data }));
  }

  /** A new key. Throws INVALID_ARGUMENT for a name that cannot be one. */
  static generate(name: string): SecretKey {
    if (!isKeyName(name)) {
      throw invalid(
        `the name of a key cannot be ${JSON.stringify(name)}: it must not be empty or contain a colon or white space`,
      );
    }
    return new SecretKey(name, crypto().randomBytes(SEED_LENGTH));
  }

  /** Reads `name:base64` of the seed and the public key. Throws INVALID_ARGUMENT. */
  static parse(text: string): SecretKey {
    const { name, data } = parseNamed(text.trim(), SEED_LENGTH + PUBLIC_LENGTH, 'secret key');
    const key = new SecretKey(name, data.subarray(0, SEED_LENGTH));
    if (!asBuffer(key.publicKey.data).equals(data.subarray(SEED_LENGTH))) {
      throw invalid(`not a secret key: ${JSON.stringify(name)} has a public half that does not belong to it`);
    }
    return key;
  }

  get name(): string {
    return this.publicKey.name;
  }

  /** The text of a key file. Whoever has it can sign. */
  secret(): string {
    return printNamed({ name: this.name, data: Buffer.concat([this.#seed, this.publicKey.data]) });
  }

  sign(signed: Signed): Signature {
    return { name: this.name, data: this.#sign(fingerprint(signed)) };
  }

  /** Signs that a path has these contents: see `castoreFingerprint`. */
  signRoot(signed: Signed, root: Uint8Array): Signature {
    return { name: castoreName(this.name), data: this.#sign(castoreFingerprint(signed, root)) };
  }

  #sign(text: string): Uint8Array {
    return crypto().sign(null, Buffer.from(text), this.#key);
  }
}
