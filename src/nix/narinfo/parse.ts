import { invalid, messageOf } from '../../util/errors.ts';
import type { ContentAddress } from '../content-address.ts';
import { parseContentAddress } from '../content-address.ts';
import { Hash } from '../hash.ts';
import type { Signature } from '../signature.ts';
import { parseSignature } from '../signature.ts';
import { StorePath } from '../store-path.ts';
import type { Key } from './print.ts';
import { isKey } from './print.ts';
import type { NarInfoValues } from './values.ts';

const DRV = '.drv';
const MAX_U64 = 2n ** 64n - 1n;

/** The key of a line. Throws INVALID_ARGUMENT for what is no line of a narinfo. */
export function keyOf(line: string): string {
  const colon = line.indexOf(':');
  // Nix skips the byte after the colon, whatever it is; caches that write none are not known.
  if (colon < 0 || (line.length > colon + 1 && line[colon + 1] !== ' ')) {
    throw invalid(
      `invalid narinfo: want a key, a colon and a space, found ${JSON.stringify(line.slice(0, 200))}`,
    );
  }
  return line.slice(0, colon);
}

/**
 * What the lines tell. Lines with other keys tell nothing, nor do a signature that is none and the address of a
 * kind that we cannot compute: who trusts a path needs another reason then. Throws INVALID_ARGUMENT.
 */
export function parseLines(lines: readonly string[]): NarInfoValues {
  const found = new Map<Key, string[]>();
  for (const line of lines) {
    const key = keyOf(line);
    if (!isKey(key)) continue;
    const values = found.get(key);
    if (!values) found.set(key, [line.slice(key.length + 2)]);
    else if (key === 'Sig') values.push(line.slice(key.length + 2));
    else throw invalid(`invalid narinfo: ${key} is there twice`);
  }
  /** The value of a key, parsed; undefined when the key is not there. */
  const optional = <T>(key: Key, parse: (text: string) => T): T | undefined => {
    const text = found.get(key)?.[0];
    if (text === undefined) return undefined;
    try {
      return parse(text);
    } catch (error) {
      throw invalid(`invalid narinfo: ${key}: ${messageOf(error)}`, { cause: error });
    }
  };
  const required = <T>(key: Key, parse: (text: string) => T): T => {
    const value = optional(key, parse);
    if (value === undefined) throw invalid(`invalid narinfo: it has no ${key}`);
    return value;
  };
  return {
    storePath: required('StorePath', StorePath.parseAbsolute),
    url: required('URL', parseText),
    compression: optional('Compression', String) || 'bzip2',
    fileHash: optional('FileHash', Hash.parse),
    fileSize: optional('FileSize', parseSize),
    narSha256: required('NarHash', parseSha256),
    narSize: required('NarSize', parseNarSize),
    references: optional('References', parseReferences) ?? [],
    deriver: optional('Deriver', parseDeriver),
    system: optional('System', String),
    signatures: (found.get('Sig') ?? []).flatMap(parseSignatureIfAny),
    ca: optional('CA', parseAddress),
  };
}

function parseText(text: string): string {
  if (text === '') throw invalid('it is empty');
  return text;
}

function parseSha256(text: string): Uint8Array {
  const hash = Hash.parse(text);
  if (hash.algorithm !== 'sha256') throw invalid(`want a sha256, found a ${hash.algorithm}`);
  return hash.digest;
}

function parseSize(text: string): bigint {
  const size = /^\d{1,20}$/.test(text) ? BigInt(text) : MAX_U64 + 1n;
  if (size > MAX_U64) throw invalid(`not a number of bytes: ${JSON.stringify(text.slice(0, 200))}`);
  return size;
}

function parseNarSize(text: string): bigint {
  const size = parseSize(text);
  if (size === 0n) throw invalid('no NAR is empty');
  return size;
}

function parseReferences(text: string): StorePath[] {
  return text.split(' ').filter(Boolean).map(StorePath.parse);
}

function parseDeriver(text: string): StorePath | undefined {
  if (text === 'unknown-deriver') return undefined;
  if (!text.endsWith(DRV)) throw invalid(`not a derivation: ${JSON.stringify(text.slice(0, 200))}`);
  return StorePath.parse(text.slice(0, -DRV.length));
}

function parseSignatureIfAny(text: string): Signature[] {
  try {
    return [parseSignature(text)];
  } catch {
    return [];
  }
}

function parseAddress(text: string): ContentAddress | undefined {
  return text === '' || text.startsWith('fixed:git:') ? undefined : parseContentAddress(text);
}
