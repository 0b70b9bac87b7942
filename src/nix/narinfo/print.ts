import { invalid } from '../../util/errors.ts';
import { printContentAddress } from '../content-address.ts';
import { Hash } from '../hash.ts';
import { printNamed } from '../named-bytes.ts';
import type { NarInfoValues } from './values.ts';

/** The keys that are known, in the order in which they are written. */
export const KEYS = {
  StorePath: 'storePath',
  URL: 'url',
  Compression: 'compression',
  FileHash: 'fileHash',
  FileSize: 'fileSize',
  NarHash: 'narSha256',
  NarSize: 'narSize',
  References: 'references',
  Deriver: 'deriver',
  System: 'system',
  Sig: 'signatures',
  CA: 'ca',
} as const satisfies Record<string, keyof NarInfoValues>;
export type Key = keyof typeof KEYS;

export function isKey(text: string): text is Key {
  return Object.hasOwn(KEYS, text);
}

/** The lines of a narinfo for one key. Throws INVALID_ARGUMENT when a value would break out of its line. */
export function linesOf(key: Key, values: NarInfoValues): string[] {
  const lines = printValues(key, values).map((value) => `${key}: ${value}`);
  const broken = lines.find((line) => line.includes('\n'));
  if (broken) throw invalid(`a line of a narinfo cannot be ${JSON.stringify(broken.slice(0, 200))}`);
  return lines;
}

function printValues(key: Key, values: NarInfoValues): string[] {
  switch (key) {
    case 'StorePath':
      return [values.storePath.absolute()];
    case 'NarHash':
      return [Hash.of('sha256', values.narSha256).toString()];
    case 'References':
      return [values.references.join(' ')];
    case 'Deriver':
      return values.deriver ? [`${values.deriver}.drv`] : [];
    case 'Sig':
      return values.signatures.map(printNamed);
    case 'CA':
      return values.ca ? [printContentAddress(values.ca)] : [];
    default: {
      const value = values[KEYS[key]];
      return value === undefined ? [] : [String(value)];
    }
  }
}
