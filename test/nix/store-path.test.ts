import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { CaType, ContentAddress } from '../../src/nix/content-address.ts';
import { CA_TYPES, caAlgorithm, parseContentAddress } from '../../src/nix/content-address.ts';
import { Hash } from '../../src/nix/hash.ts';
import { isStorePathName, StorePath } from '../../src/nix/store-path.ts';
import { toHex } from '../../src/util/bytes.ts';
import { StoreError } from '../../src/util/errors.ts';
import { forAll, storePaths } from '../helpers/arbitraries.ts';
import { describeFacts } from '../helpers/facts.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
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
  test.each(all.filter(({ expected }) => expected.path))('$name', ({ input, expected }) => {
    const method = { nar: 'fixed:r', flat: 'fixed', text: 'text' }[input.mode as 'nar' | 'flat' | 'text'];
    const ca = parseContentAddress(`${method}:${input.algo}:${input.digest_hex}`);
    const references = input.references.map(StorePath.parseAbsolute);
    expect(StorePath.ofContent(input.name, ca, references).absolute()).toBe(expected.path);
  });
});

describeNix('the store path of contents, beside that of Nix', () => {
  const nix = new NixUser();
  const evaluate = async (expression: string) =>
    (await nix.run('nix-instantiate', ['--eval', '-E', expression])).toString().trim().slice(1, -1);

  test('is the same for a text with references', async () => {
    const a = StorePath.ofContent('a', contentAddress('text:sha256', 'a'));
    const b = StorePath.ofContent('b', contentAddress('text:sha256', 'b'));
    const contents = `${b.absolute()} ${a.absolute()} ${b.absolute()}`;
    const ours = StorePath.ofContent('c', contentAddress('text:sha256', contents), [b, a, b]);
    const toFile = (name: string) => `\${builtins.toFile "${name}" "${name}"}`;
    expect(await evaluate(`builtins.toFile "c" "${toFile('b')} ${toFile('a')} ${toFile('b')}"`)).toBe(
      ours.absolute(),
    );
  });

  const fixed = CA_TYPES.filter((type) => type !== 'text:sha256');
  test.each(fixed)('is the same for %s', async (type) => {
    const { digest } = contentAddress(type, 'contents');
    const attributes = [
      `name = "x"; system = "s"; builder = "b"; outputHashAlgo = "${caAlgorithm(type)}"`,
      `outputHash = "${toHex(digest)}"; outputHashMode = "${type.includes(':r:') ? 'recursive' : 'flat'}"`,
    ];
    const path = await evaluate(`(derivation { ${attributes.join('; ')}; }).outPath`);
    expect(StorePath.ofContent('x', { type, digest }).absolute()).toBe(path);
  });
});

describe('the store path of contents', () => {
  test('does not depend on the order of the references, or on how often each is named', () => {
    forAll(fc.array(storePaths, { maxLength: 4 }), (references) => {
      const ca = contentAddress('fixed:r:sha256', 'contents');
      const path = String(StorePath.ofContent('x', ca, references));
      expect(String(StorePath.ofContent('x', ca, [...references].reverse()))).toBe(path);
      expect(String(StorePath.ofContent('x', ca, [...references, ...references]))).toBe(path);
    });
  });

  test('can refer to itself only by SHA-256 of its NAR', async () => {
    const nar = contentAddress('fixed:r:sha256', 'contents');
    expect(String(StorePath.ofContent('x', nar, [], true))).not.toBe(String(StorePath.ofContent('x', nar)));
    for (const type of CA_TYPES.filter((type) => type !== 'fixed:r:sha256')) {
      const path = () => StorePath.ofContent('x', contentAddress(type, 'contents'), [], true);
      expect(await codeOf(path)).toBe('INVALID_ARGUMENT');
    }
  });

  test('cannot have references but as a text or by SHA-256 of its NAR', async () => {
    const reference = StorePath.parse(`${HASH}-a`);
    for (const type of CA_TYPES.filter((type) => !['fixed:r:sha256', 'text:sha256'].includes(type))) {
      const path = () => StorePath.ofContent('x', contentAddress(type, 'contents'), [reference]);
      expect(await codeOf(path)).toBe('INVALID_ARGUMENT');
    }
  });
});

function contentAddress(type: CaType, contents: string): ContentAddress {
  return { type, digest: Hash.compute(caAlgorithm(type), Buffer.from(contents)).digest };
}

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
