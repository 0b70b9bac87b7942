import { invalid } from '../util/errors.ts';

/** Nix's base-32: its own alphabet, least significant digit last, the bytes read from the end. */
export const BASE32_ALPHABET = '0123456789abcdfghijklmnpqrsvwxyz';

const VALUES = new Int8Array(128).fill(-1);
for (let i = 0; i < 32; i++) VALUES[BASE32_ALPHABET.charCodeAt(i)] = i;

const CODES = Buffer.from(BASE32_ALPHABET);
/** As long as what the longest hash takes. */
const SCRATCH = Buffer.alloc(104);

/** Characters that encode this many bytes. */
export function base32Length(bytes: number): number {
  return Math.ceil((bytes * 8) / 5);
}

export function encodeBase32(bytes: Uint8Array): string {
  const length = base32Length(bytes.length);
  // A string that is made of single characters takes ten times the memory, and the time.
  const text = length <= SCRATCH.length ? SCRATCH : Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) {
    const bit = i * 5;
    const index = bit >> 3;
    const shift = bit & 7;
    const value = (bytes[index]! >> shift) | ((bytes[index + 1] ?? 0) << (8 - shift));
    text[length - 1 - i] = CODES[value & 31]!;
  }
  return text.toString('latin1', 0, length);
}

/** Throws INVALID_ARGUMENT for other characters, an impossible length, or padding bits that are not zero. */
export function decodeBase32(text: string): Uint8Array {
  const length = Math.floor((text.length * 5) / 8);
  if (base32Length(length) !== text.length)
    throw invalid(`invalid base-32: impossible length ${text.length}`);
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < text.length; i++) {
    const value = VALUES[text.charCodeAt(text.length - 1 - i)] ?? -1;
    if (value < 0) throw invalid(`invalid base-32: unexpected ${JSON.stringify(text[text.length - 1 - i])}`);
    const bit = i * 5;
    const index = bit >> 3;
    const shifted = value << (bit & 7);
    if (index < length) bytes[index]! |= shifted & 0xff;
    const carry = index < length ? shifted >> 8 : shifted;
    if (index + 1 < length) bytes[index + 1]! |= carry;
    else if (carry !== 0) throw invalid('invalid base-32: trailing bits are not zero');
  }
  return bytes;
}
