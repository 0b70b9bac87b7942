import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BASE32_ALPHABET, base32Length, decodeBase32, encodeBase32 } from '../../src/nix/base32.ts';
import { toHex } from '../../src/util/bytes.ts';
import { StoreError } from '../../src/util/errors.ts';
import { forAll } from '../helpers/arbitraries.ts';
import { describeFacts } from '../helpers/facts.ts';
import { codeOf } from '../helpers/services.ts';

describeFacts('nixbase32', (all) => {
  test.each(all)('$name', async ({ input, expected }) => {
    if (expected.error) {
      expect(await codeOf(() => decodeBase32(input.nixbase32))).toBe('INVALID_ARGUMENT');
    } else {
      expect(encodeBase32(Buffer.from(input.hex, 'hex'))).toBe(expected.nixbase32);
      expect(toHex(decodeBase32(expected.nixbase32))).toBe(input.hex);
    }
  });
});

describe("Nix's base-32", () => {
  test('gives back any bytes', () => {
    forAll(fc.uint8Array({ maxLength: 70 }), (bytes) => {
      const text = encodeBase32(bytes);
      expect(text.length).toBe(base32Length(bytes.length));
      expect(toHex(decodeBase32(text))).toBe(toHex(bytes));
    });
  });

  test('has a single text for given bytes: what decodes encodes to the same', () => {
    const characters = fc.constantFrom(...BASE32_ALPHABET, 'e', 'u', 'A', ' ', 'ü', '€');
    forAll(
      fc.string({ unit: characters, maxLength: 56 }),
      (text) => {
        let bytes: Uint8Array;
        try {
          bytes = decodeBase32(text);
        } catch (error) {
          if (!(error instanceof StoreError) || error.code !== 'INVALID_ARGUMENT') throw error;
          return;
        }
        expect(encodeBase32(bytes)).toBe(text);
      },
      2000,
    );
  });

  test.each(['e', 'o', 'u', 't', 'A', '!', 'ſ'])('does not know the letter %s', async (letter) => {
    expect(await codeOf(() => decodeBase32(`0${letter}`))).toBe('INVALID_ARGUMENT');
  });
});
