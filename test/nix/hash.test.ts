import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { HashAlgorithm } from '../../src/nix/hash.ts';
import { HASH_LENGTHS, Hash } from '../../src/nix/hash.ts';
import { toHex } from '../../src/util/bytes.ts';
import { forAll, hashes, parsedOrRefused } from '../helpers/arbitraries.ts';
import { describeFacts } from '../helpers/facts.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { codeOf } from '../helpers/services.ts';

const ALGORITHMS = Object.keys(HASH_LENGTHS) as HashAlgorithm[];
const HELLO = Hash.compute('sha256', Buffer.from('hello'));

describeFacts('nixhash_parse', (all) => {
  test.each(all)('$name', async ({ input, expected }) => {
    // The Rust programs take it in one of these forms, and write it in none.
    if (/^sha256-[^=]{43}$/.test(input.string)) expect(Hash.parse(input.string).algorithm).toBe('sha256');
    else if (expected.error) {
      expect(await codeOf(() => Hash.parse(input.string))).toBe('INVALID_ARGUMENT');
    } else {
      const hash = Hash.parse(input.string);
      expect([hash.algorithm, toHex(hash.digest)]).toEqual([expected.algo, expected.digest_hex]);
    }
  });
});

describe('a hash', () => {
  test('is read back from every form of it', () => {
    forAll(hashes, (hash) => {
      const forms = [hash.toString(), hash.toBase16(), hash.toBase64(), hash.toSri()];
      for (const form of [...forms, hash.toBase16().replace(/(?<=:).*/, (hex) => hex.toUpperCase())]) {
        expect(Hash.parse(form).equals(hash)).toBe(true);
      }
    });
  });

  test.each([
    '',
    'sha256',
    'sha256:',
    'sha256-',
    'sha224:00',
    'toString:00',
    'SHA256:00',
    HELLO.toString().slice(0, -1),
    `${HELLO}0`,
    `${HELLO}\n`,
    ` ${HELLO}`,
    HELLO.toString().replace(':', ':z').slice(0, -1),
    HELLO.toBase16().replace(/.$/, 'g'),
    HELLO.toBase16().replace(':', '-'),
    HELLO.toSri().replace(/.=$/, '=='),
    HELLO.toSri().replace(/=$/, 'A'),
    HELLO.toSri().replace(/..=$/, '-_='),
    HELLO.toSri().replace('sha256', 'sha512'),
    `${HELLO.toSri()}?option`,
  ])('cannot be %j', async (text) => {
    expect(await codeOf(() => Hash.parse(text))).toBe('INVALID_ARGUMENT');
  });

  test('has a length that its algorithm gives', async () => {
    for (const algorithm of ALGORITHMS) {
      for (const length of [0, HASH_LENGTHS[algorithm] - 1, HASH_LENGTHS[algorithm] + 1]) {
        expect(await codeOf(() => Hash.of(algorithm, new Uint8Array(length)))).toBe('INVALID_ARGUMENT');
      }
    }
  });

  test('of any text is read or refused', () => {
    const tails = fc.string({ unit: fc.constantFrom(...'0123abcdfxyzZ+/=-e ü'), maxLength: 130 });
    forAll(
      fc.tuple(fc.constantFrom(...ALGORITHMS, 'x'), fc.constantFrom(':', '-', ''), tails),
      (parts) => {
        const hash = parsedOrRefused(() => Hash.parse(parts.join('')));
        if (hash) expect(hash.digest.length).toBe(HASH_LENGTHS[hash.algorithm]);
      },
      2000,
    );
  });
});

describeNix('hashes, beside those of Nix', () => {
  test.each(ALGORITHMS)('%s has the same forms', async (algorithm) => {
    const nix = new NixUser();
    const hash = Hash.compute(algorithm, Buffer.from('hello'));
    const print = async (form: string, text: string) =>
      (await nix.run('nix', ['hash', `to-${form}`, '--type', algorithm, text])).toString().trim();
    const bare = (text: string) => text.slice(algorithm.length + 1);
    expect(await print('base32', hash.toSri())).toBe(bare(hash.toString()));
    expect(await print('base16', hash.toBase64())).toBe(bare(hash.toBase16()));
    expect(await print('base64', hash.toBase16())).toBe(bare(hash.toBase64()));
    expect(await print('sri', hash.toString())).toBe(hash.toSri());
  });
});
