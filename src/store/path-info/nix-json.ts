import { parseKnownContentAddress } from '../../nix/content-address.ts';
import { Hash } from '../../nix/hash.ts';
import type { Signature } from '../../nix/signature.ts';
import { parseSignature } from '../../nix/signature.ts';
import { STORE_DIR, StorePath } from '../../nix/store-path.ts';
import { invalid, messageOf, StoreError } from '../../util/errors.ts';
import type { PathDescription } from './path-info.ts';

type Fields = Record<string, unknown>;

/**
 * Reads what tells of store paths as JSON, in the forms that there are: the list of `nix path-info --json` up to
 * 2.18, the map of later ones by store path (also below `info`, with base names), and the reference graph of
 * `exportReferencesGraph`, a list at the key `closure`. Keys that are not known are ignored. Throws
 * INVALID_ARGUMENT, and NOT_FOUND for a path that Nix says is not valid.
 */
export function parseNixJson(text: string): PathDescription[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalid(`not JSON: ${messageOf(error).replace(/\s+/g, ' ')}`, { cause: error });
  }
  return entriesOf(value).map(([path, fields]) => {
    const shown = JSON.stringify(String(path).slice(0, 300));
    if (!isFields(fields) || fields.valid === false) {
      throw new StoreError('NOT_FOUND', `Nix does not have ${shown}`);
    }
    try {
      return description(path, fields);
    } catch (error) {
      throw invalid(`what is told of ${shown} cannot be read: ${messageOf(error)}`, { cause: error });
    }
  });
}

function entriesOf(value: unknown): [unknown, unknown][] {
  const list = isFields(value) && Array.isArray(value.closure) ? value.closure : value;
  if (Array.isArray(list)) return list.map((entry) => [isFields(entry) ? entry.path : undefined, entry]);
  if (!isFields(value))
    throw invalid('want a list of store paths, an object by store path, or one with the key closure');
  if (!isFields(value.info)) return Object.entries(value);
  checkStoreDir(value);
  return Object.entries(value.info);
}

function description(path: unknown, fields: Fields): PathDescription {
  checkStoreDir(fields);
  const deriver = fields.deriver ? storePath(fields.deriver) : undefined;
  const ca = fields.ca ? contentAddress(fields.ca) : undefined;
  return {
    storePath: storePath(path),
    narSha256: sha256(fields.narHash),
    narSize: size(fields.narSize),
    references: list(fields.references, 'references').map(storePath),
    signatures: list(fields.signatures ?? [], 'signatures').map(signature),
    // Kept without its ending, which is put back whenever it is told; nothing depends on one that has none.
    ...(deriver?.name.endsWith(DERIVATION)
      ? { deriver: StorePath.of(deriver.hash, deriver.name.slice(0, -DERIVATION.length)) }
      : {}),
    ...(ca ? { ca } : {}),
  };
}

/** Of another store not even the hashes of the paths mean the same. */
function checkStoreDir({ storeDir = STORE_DIR }: Fields): void {
  if (storeDir !== STORE_DIR)
    throw invalid(`it is of the store ${JSON.stringify(storeDir).slice(0, 200)}, not of ${STORE_DIR}`);
}

function storePath(value: unknown): StorePath {
  const path = text(value, 'a store path');
  return path.startsWith(`${STORE_DIR}/`) ? StorePath.parseAbsolute(path) : StorePath.parse(path);
}

function sha256(value: unknown): Uint8Array {
  const hash = Hash.parse(hashText(value));
  if (hash.algorithm !== 'sha256') throw invalid(`the NAR hash is a ${hash.algorithm}, want sha256`);
  return hash.digest;
}

/** A hash as text, or as the newest Nix has it, in its parts. */
function hashText(value: unknown): string {
  if (!isFields(value)) return text(value, 'a hash');
  return `${text(value.algorithm, 'an algorithm')}:${text(value.hash, 'a hash')}`;
}

function size(value: unknown): bigint {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw invalid(`${JSON.stringify(value)} is not a size of a NAR`);
  return BigInt(value);
}

function signature(value: unknown): Signature {
  return parseSignature(
    isFields(value)
      ? `${text(value.keyName, 'the name of a key')}:${text(value.sig, 'a signature')}`
      : text(value, 'a signature'),
  );
}

const METHODS: Record<string, string> = { nar: 'fixed:r:', flat: 'fixed:', text: 'text:', git: 'fixed:git:' };
const DERIVATION = '.drv';

/** `undefined` for one of a kind that only Nix can compute. */
function contentAddress(value: unknown) {
  if (!isFields(value)) return parseKnownContentAddress(text(value, 'a content address'));
  const method = METHODS[text(value.method, 'a method')];
  if (!method) throw invalid(`unknown content address method ${JSON.stringify(value.method)}`);
  // In the web's form a hash has a dash, in others a colon.
  return parseKnownContentAddress(method + hashText(value.hash).replace(/^([a-z0-9]+)-/, '$1:'));
}

function list(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value)) throw invalid(`there is no list of ${what}`);
  return value;
}

function text(value: unknown, what: string): string {
  if (typeof value !== 'string') throw invalid(`${JSON.stringify(value) ?? 'nothing'} is not ${what}`);
  return value;
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
