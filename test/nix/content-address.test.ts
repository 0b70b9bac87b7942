import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ContentAddress } from '../../src/nix/content-address.ts';
import { caAlgorithm, parseContentAddress, printContentAddress } from '../../src/nix/content-address.ts';
import { Hash } from '../../src/nix/hash.ts';
import { toHex } from '../../src/util/bytes.ts';
import { contentAddresses, forAll, parsedOrRefused } from '../helpers/arbitraries.ts';
import { describeFacts } from '../helpers/facts.ts';
import { codeOf } from '../helpers/services.ts';

const SHA256 = Hash.compute('sha256', new Uint8Array());
const MD5 = Hash.compute('md5', new Uint8Array());

describeFacts('ca_string', (all) => {
  test.each(all)('$name', async ({ input, expected }) => {
    if (expected.error) {
      expect(await codeOf(() => parseContentAddress(input.ca))).toBe('INVALID_ARGUMENT');
      return;
    }
    const ca = parseContentAddress(input.ca);
    const method = { nar: 'fixed:r', flat: 'fixed', text: 'text' }[expected.mode as 'nar' | 'flat' | 'text'];
    expect(ca.type).toBe(`${method}:${expected.algo}`);
    expect(toHex(ca.digest)).toBe(expected.digest_hex);
    expect(printContentAddress(ca)).toBe(input.ca);
  });
});

describe('a content address', () => {
  test('is read back from its text, the digest in any base', () => {
    forAll(contentAddresses, (ca) => {
      const text = printContentAddress(ca);
      expect(shown(parseContentAddress(text))).toBe(shown(ca));
      const hash = Hash.of(caAlgorithm(ca.type), ca.digest);
      expect(shown(parseContentAddress(text.replace(String(hash), hash.toBase16())))).toBe(shown(ca));
    });
  });

  test.each([
    '',
    'fixed',
    'fixed:',
    'fixed:r',
    'fixed:r:',
    `fixed:r:r:${SHA256}`,
    `fixed:git:${SHA256}`,
    `fixed:${SHA256.toSri()}`,
    `text:${MD5}`,
    `text:r:${SHA256}`,
    `nar:${SHA256}`,
    `${SHA256}`,
    `fixed:${SHA256} `,
    `fixed:${SHA256}\n`,
    `fixed: ${SHA256}`,
  ])('cannot be %j', async (text) => {
    expect(await codeOf(() => parseContentAddress(text))).toBe('INVALID_ARGUMENT');
  });

  test('of any text is read or refused', () => {
    const piece = fc.constantFrom(
      'fixed',
      'text',
      'r',
      ':',
      'sha256',
      'md5',
      String(MD5),
      String(SHA256),
      ' ',
    );
    forAll(
      fc.array(piece, { maxLength: 7 }),
      (pieces) => {
        const ca = parsedOrRefused(() => parseContentAddress(pieces.join('')));
        if (ca) expect(printContentAddress(ca)).toBe(pieces.join(''));
      },
      2000,
    );
  });
});

function shown({ type, digest }: ContentAddress): string {
  return `${type} ${toHex(digest)}`;
}
