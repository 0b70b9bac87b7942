import { invalid } from '../../util/errors.ts';
import type { ContentAddress } from '../content-address.ts';
import { parseKnownContentAddress, printContentAddress } from '../content-address.ts';
import { Hash } from '../hash.ts';
import { printNamed } from '../named-bytes.ts';
import type { Signature } from '../signature.ts';
import { castoreKeyName, castoreName, parseSignature } from '../signature.ts';
import { StorePath } from '../store-path.ts';
import type { NarInfoValues } from './values.ts';

/** A key of a narinfo, and how its value is read and printed. */
export interface Field<Name extends keyof NarInfoValues = keyof NarInfoValues> {
  readonly name: Name;
  /** Whether the key may be there more than once. */
  readonly repeats: boolean;
  /** Reads the value in its lines, as many as there are. Throws for a text that is none. */
  parse(texts: readonly string[]): NarInfoValues[Name];
  /** Its lines, as many as it takes. */
  print(value: NarInfoValues[Name]): string[];
}

/** The keys that are known, in the order in which they are written. */
export const FIELDS = {
  StorePath: required('storePath', StorePath.parseAbsolute, (path) => path.absolute()),
  URL: required('url', parseText, String),
  Compression: always('compression', (text) => text || 'bzip2', String),
  FileHash: optional('fileHash', Hash.parse, String),
  FileSize: optional('fileSize', parseSize, String),
  NarHash: required('narSha256', parseSha256, (digest) => Hash.of('sha256', digest).toString()),
  NarSize: required('narSize', parseNarSize, String),
  References: always('references', parseReferences, (paths) => paths.join(' ')),
  Deriver: optional('deriver', parseDeriver, (path) => `${path}${DRV}`),
  System: optional('system', String, String),
  Sig: signatures(
    (signature) => signature,
    (signature) => (castoreKeyName(signature) === undefined ? signature : undefined),
  ),
  /** Those over castore roots, by the names of their keys: Nix has no use for them. */
  CastoreSig: signatures(
    ({ name, data }) => ({ name: castoreName(name), data }),
    ({ name, data }) => {
      const keyName = castoreKeyName({ name });
      return keyName === undefined ? undefined : { name: keyName, data };
    },
  ),
  CA: optional('ca', parseAddress, printContentAddress),
};
export type Key = keyof typeof FIELDS;
export const KEYS = Object.keys(FIELDS) as Key[];

export function isKey(text: string): text is Key {
  return Object.hasOwn(FIELDS, text);
}

type Value<Name extends keyof NarInfoValues> = NarInfoValues[Name];

function required<Name extends keyof NarInfoValues>(
  name: Name,
  parse: (text: string) => Value<Name>,
  print: (value: Value<Name>) => string,
): Field<Name> {
  const read = ([text]: readonly string[]) => {
    if (text === undefined) throw invalid('it is missing');
    return parse(text);
  };
  return { name, repeats: false, parse: read, print: (value) => [print(value)] };
}

/** For a key that is always written; without it, it is as if it were empty. */
function always<Name extends keyof NarInfoValues>(
  name: Name,
  parse: (text: string) => Value<Name>,
  print: (value: Value<Name>) => string,
): Field<Name> {
  return { name, repeats: false, parse: ([text = '']) => parse(text), print: (value) => [print(value)] };
}

function optional<Name extends 'fileHash' | 'fileSize' | 'deriver' | 'system' | 'ca'>(
  name: Name,
  parse: (text: string) => Value<Name>,
  print: (value: NonNullable<Value<Name>>) => string,
): Field<Name> {
  return {
    name,
    repeats: false,
    parse: ([text]) => (text === undefined ? undefined : parse(text)) as Value<Name>,
    print: (value) => (value === undefined ? [] : [print(value)]),
  };
}

/**
 * A key for some of the signatures. `read` makes one of what stands in a line, and `written` what is to stand there, if this
 * key is that of the signature.
 */
function signatures(
  read: (signature: Signature) => Signature,
  written: (signature: Signature) => Signature | undefined,
): Field<'signatures'> {
  return {
    name: 'signatures',
    repeats: true,
    parse: (texts) => parseSignatures(texts).map(read),
    print: (values) => values.flatMap((one) => written(one) ?? []).map(printNamed),
  };
}

const DRV = '.drv';
const MAX_U64 = 2n ** 64n - 1n;

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
  const path = StorePath.parse(text);
  // Nothing depends on it: another path is none that we could tell of, and no harm.
  return path.name.endsWith(DRV) ? StorePath.parse(text.slice(0, -DRV.length)) : undefined;
}

/** A signature that is none tells nothing: who trusts a path needs another reason then. */
function parseSignatures(texts: readonly string[]): Signature[] {
  return texts.flatMap((text) => {
    try {
      return [parseSignature(text)];
    } catch {
      return [];
    }
  });
}

/** The address of a kind that we cannot compute tells nothing. */
function parseAddress(text: string): ContentAddress | undefined {
  return text === '' ? undefined : parseKnownContentAddress(text);
}
