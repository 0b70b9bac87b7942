import { asBuffer } from '../util/bytes.ts';
import { invalid, messageOf } from '../util/errors.ts';
import { decodeBase64 } from './base64.ts';

/** Bytes with the name of a key. */
export interface NamedBytes {
  readonly name: string;
  readonly data: Uint8Array;
}

/**
 * Reads `name:base64` of so many bytes, the form of keys and signatures. The name is anything without a colon or
 * white space, as in Nix, of at most 255 characters. The text may be a secret: errors show no more of it than the name. Throws
 * INVALID_ARGUMENT.
 */
export function parseNamed(text: string, length: number, what: string): NamedBytes {
  const colon = text.indexOf(':');
  const name = text.slice(0, Math.max(0, colon));
  if (!isKeyName(name)) {
    throw invalid(`not a ${what}: want a name without white space, a colon and base-64`);
  }
  try {
    return { name, data: decodeBase64(text.slice(colon + 1), length) };
  } catch (error) {
    throw invalid(`not a ${what}: ${JSON.stringify(name)} has ${messageOf(error)}`);
  }
}

export function printNamed({ name, data }: NamedBytes): string {
  return `${name}:${asBuffer(data).toString('base64')}`;
}

/** Whether a key can have this name: not one so long that a narinfo with some signatures could not be read. */
export function isKeyName(name: string): boolean {
  return /^[^:\s]{1,255}$/.test(name);
}
