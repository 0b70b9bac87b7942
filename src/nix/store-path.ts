import { toHex } from '../util/bytes.ts';
import { invalid } from '../util/errors.ts';
import { lazyPackage } from '../util/lazy.ts';
import { base32Length, decodeBase32, encodeBase32 } from './base32.ts';
import type { ContentAddress } from './content-address.ts';

const crypto = lazyPackage<typeof import('node:crypto')>('node:crypto');

export const STORE_DIR = '/nix/store';

/** Bytes of the hash in a store path. */
export const STORE_PATH_HASH_LENGTH = 20;
const HASH_CHARACTERS = base32Length(STORE_PATH_HASH_LENGTH);
const MAX_NAME_LENGTH = 211;

/** How a store path is called of which only the hash is known. */
export function unnamedPath(hash: Uint8Array): string {
  return `${STORE_DIR}/${encodeBase32(hash)}-?`;
}

/** A store path: the hash that identifies it, and its name. */
export class StorePath {
  /** 20 bytes. */
  readonly hash: Uint8Array;
  readonly name: string;
  /** The base name, as soon as it has been asked for. */
  #text: string | undefined;

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
    if (baseName[HASH_CHARACTERS] !== '-') {
      const shown = JSON.stringify(baseName.slice(0, 300));
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
   * The store path of contents by their address. Only a text or a NAR by SHA-256 can refer to other paths,
   * and only the latter to itself (`self`; the digest is then that of the NAR without its own hash in it).
   * Throws INVALID_ARGUMENT for references where none can be, or a bad name.
   */
  static ofContent(
    name: string,
    { type, digest }: ContentAddress,
    references: Iterable<StorePath> = [],
    self = false,
  ): StorePath {
    checkName(name);
    const paths = sortStorePaths(references).map((path) => `:${path.absolute()}`);
    if (type === 'fixed:r:sha256') return made(`source${paths.join('')}${self ? ':self' : ''}`, digest, name);
    if (self) throw invalid(`a path with the content address ${type} cannot refer to itself`);
    if (type === 'text:sha256') return made(`text${paths.join('')}`, digest, name);
    if (paths.length > 0) throw invalid(`a path with the content address ${type} cannot have references`);
    const inner = `fixed:out:${type.slice('fixed:'.length)}:${toHex(digest)}:`;
    return made('output:out', crypto().createHash('sha256').update(inner).digest(), name);
  }

  /** The store path of a tree by the hash of its NAR, without references: what `nix-store --add` gives. */
  static ofNar(name: string, narSha256: Uint8Array): StorePath {
    return StorePath.ofContent(name, { type: 'fixed:r:sha256', digest: narSha256 });
  }

  /** The hash as in the path, 32 characters. */
  get hashText(): string {
    return encodeBase32(this.hash);
  }

  /** The base name. */
  toString(): string {
    this.#text ??= `${this.hashText}-${this.name}`;
    return this.#text;
  }

  absolute(): string {
    return `${STORE_DIR}/${this}`;
  }
}

/** The path of something of this type, as Nix makes them: a hash that is folded. */
function made(type: string, sha256: Uint8Array, name: string): StorePath {
  const fingerprint = `${type}:sha256:${toHex(sha256)}:${STORE_DIR}:${name}`;
  const digest = crypto().createHash('sha256').update(fingerprint).digest();
  return StorePath.of(compressHash(digest, STORE_PATH_HASH_LENGTH), name);
}

/** In the order that Nix keeps sets of them, by the bytes of the base name, and each once. */
export function sortStorePaths(paths: Iterable<StorePath>): StorePath[] {
  const byName = new Map([...paths].map((path) => [path.toString(), path]));
  return [...byName].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, path]) => path);
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
  if (name.length === 0) throw invalid('the name of a store path must not be empty');
  const shown = () => JSON.stringify(name.slice(0, 300));
  if (name.length > MAX_NAME_LENGTH)
    throw invalid(`the name ${shown()} is longer than ${MAX_NAME_LENGTH} characters`);
  const bad = /[^A-Za-z0-9+\-_?=.]/u.exec(name);
  if (bad) {
    throw invalid(
      `the name ${shown()} contains ${JSON.stringify(bad[0])}; letters, digits and + - _ ? = . are allowed`,
    );
  }
}

/** Folds a hash to fewer bytes by exclusive or, as Nix does for store paths. */
export function compressHash(hash: Uint8Array, length: number): Uint8Array {
  const folded = new Uint8Array(length);
  for (let i = 0; i < hash.length; i++) folded[i % length]! ^= hash[i]!;
  return folded;
}
