import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isStorePathName, StorePath } from '../../src/nix/store-path.ts';
import { toHex } from '../../src/util/bytes.ts';
import { StoreError } from '../../src/util/errors.ts';
import { forAll, storePaths } from '../helpers/arbitraries.ts';
import { describeFacts } from '../helpers/facts.ts';
import { codeOf } from '../helpers/services.ts';

const HASH = '00bgd045z0d4icpbc2yyz4gx48ak44la';

describeFacts('store_path', (all) => {
  test.each(all.filter((fact) => fact.input.basename))('$name', async ({ input, expected }) => {
    expect(isStorePathName(input.basename)).toBe(!expected.error);
    if (expected.error) {
      expect(await codeOf(() => StorePath.parse(input.basename))).toBe('INVALID_ARGUMENT');
      return;
    }
    const path = StorePath.parse(input.basename);
    expect(toHex(path.hash)).toBe(expected.digest_hex);
    expect(path.name).toBe(expected.name);
    expect(path.toString()).toBe(input.basename);
  });

  test.each(all.filter((fact) => fact.input.path))('$name', async ({ input, expected }) => {
    // A path below a store path is for the command line to take apart.
    if (expected.subpath) {
      expect(await codeOf(() => StorePath.parseAbsolute(input.path))).toBe('INVALID_ARGUMENT');
    } else {
      expect(StorePath.parseAbsolute(input.path).toString()).toBe(expected.store_path);
      expect(StorePath.parse(expected.store_path).absolute()).toBe(input.path);
    }
  });
});

describeFacts('ca_store_path', (all) => {
  const plainNar = all.filter(
    ({ input }) => input.mode === 'nar' && input.algo === 'sha256' && input.references.length === 0,
  );

  test.each(plainNar)('$name', ({ input, expected }) => {
    const path = StorePath.ofNar(input.name, Buffer.from(input.digest_hex, 'hex'));
    expect(path.absolute()).toBe(expected.path);
  });
});

describe('a store path', () => {
  test('is read back from its text', () => {
    forAll(storePaths, (path) => {
      expect(isStorePathName(path.toString())).toBe(true);
      const back = StorePath.parse(path.toString());
      expect([toHex(back.hash), back.name]).toEqual([toHex(path.hash), path.name]);
      expect(StorePath.parseAbsolute(path.absolute()).toString()).toBe(path.toString());
    });
  });

  test('refuses other texts with INVALID_ARGUMENT, and what asks beforehand agrees', () => {
    const nearly = fc.tuple(storePaths, fc.nat(), fc.string({ maxLength: 3 })).map(([path, at, text]) => {
      const base = path.toString();
      return base.slice(0, at % base.length) + text + base.slice((at % base.length) + 1);
    });
    forAll(
      fc.oneof(fc.string({ unit: 'binary', maxLength: 60 }), nearly),
      (text) => {
        let valid = true;
        try {
          StorePath.parse(text);
        } catch (error) {
          if (!(error instanceof StoreError) || error.code !== 'INVALID_ARGUMENT') throw error;
          valid = false;
        }
        expect(isStorePathName(text)).toBe(valid);
      },
      2000,
    );
  });

  test.each(['', 'a b', 'a/b', 'ä', 'a\n', 'a\0', 'x'.repeat(212)])(
    'cannot have the name %j',
    async (name) => {
      expect(await codeOf(() => StorePath.parse(`${HASH}-${name}`))).toBe('INVALID_ARGUMENT');
      expect(await codeOf(() => StorePath.ofNar(name, new Uint8Array(32)))).toBe('INVALID_ARGUMENT');
      expect(isStorePathName(`${HASH}-${name}`)).toBe(false);
    },
  );

  test('can have a name of 211 characters', () => {
    expect(StorePath.parse(`${HASH}-${'x'.repeat(211)}`).name.length).toBe(211);
  });

  test('is below /nix/store', async () => {
    for (const path of [`/nix/stores/${HASH}-a`, `/nix/store${HASH}-a`, `${HASH}-a`, '/nix/store/', '']) {
      expect(await codeOf(() => StorePath.parseAbsolute(path))).toBe('INVALID_ARGUMENT');
    }
  });

  test('has a hash of 20 bytes', async () => {
    for (const length of [0, 19, 21, 32]) {
      expect(await codeOf(() => StorePath.of(new Uint8Array(length), 'name'))).toBe('INVALID_ARGUMENT');
    }
  });
});
