import { createHash } from 'node:crypto';
import { toHex } from '../util/bytes.ts';
import { invalid } from '../util/errors.ts';
import { base32Length, decodeBase32, encodeBase32 } from './base32.ts';

export const STORE_DIR = '/nix/store';

/** Bytes of the hash in a store path. */
export const STORE_PATH_HASH_LENGTH = 20;
const HASH_CHARACTERS = base32Length(STORE_PATH_HASH_LENGTH);
const MAX_NAME_LENGTH = 211;

/** A store path: the hash that identifies it, and its name. */
export class StorePath {
  /** 20 bytes. */
  readonly hash: Uint8Array;
  readonly name: string;

  private constructor(hash: Uint8Array, name: string) {
    this.hash = hash;
    this.name = name;
  }

  /** Throws INVALID_ARGUMENT for a bad hash length or name. */
  static of(hash: Uint8Array, name: string): StorePath {
    if (hash.length !== STORE_PATH_HASH_LENGTH)
      throw invalid(`invalid store path hash: ${hash.length} bytes, want 20`);
    checkName(name);
    return new StorePath(hash, name);
  }

  /** Reads the base name, `<hash>-<name>`. Throws INVALID_ARGUMENT. */
  static parse(baseName: string): StorePath {
    const shown = JSON.stringify(baseName.slice(0, 300));
    if (baseName[HASH_CHARACTERS] !== '-') {
      throw invalid(`not a store path: ${shown}, want 32 characters of hash, a dash and a name`);
    }
    const name = baseName.slice(HASH_CHARACTERS + 1);
    checkName(name);
    return new StorePath(decodeBase32(baseName.slice(0, HASH_CHARACTERS)), name);
  }

  /** Reads `/nix/store/<hash>-<name>`. Throws INVALID_ARGUMENT. */
  static parseAbsolute(path: string): StorePath {
    if (!path.startsWith(`${STORE_DIR}/`))
      throw invalid(`not below ${STORE_DIR}: ${JSON.stringify(path.slice(0, 300))}`);
    return StorePath.parse(path.slice(STORE_DIR.length + 1));
  }

  /**
   * The address of a tree by the hash of its NAR, without references: `fixed:r:sha256`, what `nix-store --add`
   * gives. Throws INVALID_ARGUMENT for a bad name.
   */
  static ofNar(name: string, narSha256: Uint8Array): StorePath {
    checkName(name);
    const fingerprint = `source:sha256:${toHex(narSha256)}:${STORE_DIR}:${name}`;
    const digest = createHash('sha256').update(fingerprint).digest();
    return new StorePath(compressHash(digest, STORE_PATH_HASH_LENGTH), name);
  }

  /** The hash as in the path, 32 characters. */
  get hashText(): string {
    return encodeBase32(this.hash);
  }

  /** The base name. */
  toString(): string {
    return `${this.hashText}-${this.name}`;
  }

  absolute(): string {
    return `${STORE_DIR}/${this}`;
  }
}

/** Whether a base name has the form of a store path. */
export function isStorePathName(baseName: string): boolean {
  return (
    baseName.length <= HASH_CHARACTERS + 1 + MAX_NAME_LENGTH &&
    /^[0-9a-df-np-sv-z]{32}-[A-Za-z0-9+\-_?=.]+$/.test(baseName)
  );
}

/** Throws INVALID_ARGUMENT for what cannot be the name of a store path. */
export function checkName(name: string): void {
  const shown = JSON.stringify(name.slice(0, 300));
  if (name.length === 0) throw invalid('the name of a store path must not be empty');
  if (name.length > MAX_NAME_LENGTH)
    throw invalid(`the name ${shown} is longer than ${MAX_NAME_LENGTH} characters`);
  const bad = /[^A-Za-z0-9+\-_?=.]/u.exec(name);
  if (bad) {
    throw invalid(
      `the name ${shown} contains ${JSON.stringify(bad[0])}; letters, digits and + - _ ? = . are allowed`,
    );
  }
}

/** Folds a hash to fewer bytes by exclusive or, as Nix does for store paths. */
export function compressHash(hash: Uint8Array, length: number): Uint8Array {
  const folded = new Uint8Array(length);
  for (let i = 0; i < hash.length; i++) folded[i % length]! ^= hash[i]!;
  return folded;
}
