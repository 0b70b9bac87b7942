import { invalid } from '../util/errors.ts';

/** Characters that encode this many bytes, padding and all. */
export function base64Length(bytes: number): number {
  return Math.ceil(bytes / 3) * 4;
}

/**
 * Reads base-64 with its padding. As in Nix, the bits that are left over in the last character mean nothing.
 * Throws INVALID_ARGUMENT for other characters, or when it is not `length` bytes.
 */
export function decodeBase64(text: string, length: number): Uint8Array {
  return decode(text, length);
}

/** As `decodeBase64`; padding may be left out, as in integrity attributes of the web. */
export function decodeSriBase64(text: string, length: number): Uint8Array {
  return decode(text.includes('=') ? text : text.padEnd(base64Length(length), '='), length);
}

function decode(text: string, length: number): Uint8Array {
  const bytes = Buffer.from(text, 'base64');
  if (text.length !== base64Length(length) || !/^[A-Za-z0-9+/]*={0,2}$/.test(text) || bytes.length !== length)
    throw invalid(`invalid base-64, want ${base64Length(length)} characters that give ${length} bytes`);
  return bytes;
}
