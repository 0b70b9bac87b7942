import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { CaType } from '../../../src/nix/content-address.ts';
import { SecretKey } from '../../../src/nix/key.ts';
import { NarInfo } from '../../../src/nix/narinfo/narinfo.ts';
import { StorePath } from '../../../src/nix/store-path.ts';
import { parseCaches } from '../../../src/store/substitute/address.ts';
import { checkTrust } from '../../../src/store/substitute/trust.ts';
import type { TestPath } from '../../helpers/binary-cache.ts';
import { CacheServer, KEY, narOf, openCached, testPath } from '../../helpers/binary-cache.ts';
import { describeCorpus } from '../../helpers/facts.ts';
import { checkComplete, codeOf } from '../../helpers/services.ts';
import type { Tree } from '../../helpers/trees.ts';
import { directory, file } from '../../helpers/trees.ts';

/** Takes a path from a cache that is trusted in this way. */
async function take(path: TestPath, parameters = '') {
  const cache = await CacheServer.start([path]);
  const store = await openCached(`nix+${cache.origin}${parameters}`);
  const info = (await store.pathInfos.get(path.info.storePath.hash))!;
  await checkComplete(store, info);
  return info;
}

const keys = (...keys: SecretKey[]) =>
  `?trusted-public-keys=${keys.map(({ publicKey }) => encodeURIComponent(publicKey.toString())).join('%20')}`;
const other = SecretKey.generate('other-1');

describe('a path with a signature', () => {
  const signed = testPath('signed');

  test('is taken if one of its keys is trusted', async () => {
    await take(signed, keys(KEY));
    await take(signed, keys(other, KEY));
    await take(signed, `?trusted_public_keys[0]=${encodeURIComponent(KEY.publicKey.toString())}`);
  });

  test('is refused without keys, and the error says what to do', async () => {
    await expect(take(signed)).rejects.toThrow(/signatures: "test-1".*\?trusted-public-keys=.*\?trusted=1/);
    await expect(take(signed, keys(other))).rejects.toThrow(/trusted: other-1/);
    expect(await codeOf(take(signed))).toBe('PERMISSION_DENIED');
  });

  test('is refused if what was signed is not what is said now', async () => {
    const moved = testPath('signed', { references: [testPath('added')] });
    const { signatures } = signed.info;
    await expect(take({ ...moved, info: moved.info.with({ signatures }) }, keys(KEY))).rejects.toThrow(
      /no valid signature/,
    );
  });

  test('is taken from a cache that is trusted whatever it says', async () => {
    await take(testPath('unsigned', { key: undefined }), '?trusted=1');
  });
});

describe('a path without a signature', () => {
  /** A path whose name follows from its contents, or so it says. */
  function addressed(type: CaType, tree: Tree, hashed: Uint8Array, references: TestPath[] = []): TestPath {
    const algorithm = type.slice(type.lastIndexOf(':') + 1);
    const ca = { type, digest: createHash(algorithm).update(hashed).digest() };
    const paths = references.map(({ info }) => info.storePath);
    const storePath = StorePath.ofContent('addressed', ca, paths);
    return testPath('addressed', { tree, key: undefined, references, lies: { storePath, ca } });
  }
  const text = file('a text');
  const tree = directory({ text });
  const contents = Buffer.from('a text');
  const reference = testPath('reference');

  test.each([
    addressed('fixed:r:sha256', tree, narOf(tree)),
    addressed('fixed:r:sha256', tree, narOf(tree), [reference]),
    addressed('fixed:r:sha1', tree, narOf(tree)),
    addressed('fixed:r:md5', tree, narOf(tree)),
    addressed('fixed:r:sha512', tree, narOf(tree)),
    addressed('fixed:sha256', text, contents),
    addressed('fixed:sha512', text, contents),
    addressed('text:sha256', text, contents, [reference]),
  ])('is taken if its name follows from its contents: $info.ca.type', async (path) => {
    expect((await take(path)).ca?.type).toBe(path.info.ca?.type);
  });

  test.each([
    addressed('fixed:r:sha256', tree, Buffer.from('something else')),
    addressed('fixed:r:sha1', tree, Buffer.from('something else')),
    addressed('fixed:sha256', text, Buffer.from('something else')),
    addressed('fixed:sha256', tree, contents),
    addressed('fixed:sha256', file('a text', true), contents),
    addressed('text:sha256', text, Buffer.from('something else')),
  ])('is refused if its contents are others: $info.ca.type', async (path) => {
    expect(await codeOf(take(path))).toBe('DATA_LOSS');
  });

  test('is refused if its name does not follow from the content address', async () => {
    const honest = addressed('fixed:r:sha256', tree, narOf(tree));
    const storePath = StorePath.of(honest.info.storePath.hash, 'renamed');
    expect(await codeOf(take({ ...honest, info: honest.info.with({ storePath }) }))).toBe(
      'PERMISSION_DENIED',
    );
  });

  test('and without a content address is refused', async () => {
    await expect(take(testPath('unsigned', { key: undefined }), keys(KEY))).rejects.toThrow(
      /signatures: none/,
    );
  });
});

test('a content address that does not lead to the path is not kept', async () => {
  const ca = { type: 'fixed:r:sha256', digest: Buffer.alloc(32, 7) } as const;
  expect((await take(testPath('signed', { lies: { ca } }), keys(KEY))).ca).toBeUndefined();
});

describeCorpus((narinfos) => {
  test('are trusted by the key of cache.nixos.org where it has signed', () => {
    const { trust } = parseCaches(new URL('nix+https://cache.nixos.org'))[0]!;
    const signed = narinfos
      .map((text) => NarInfo.parse(Buffer.from(text)))
      .filter(({ signatures }) => signatures.some(({ name }) => name === 'cache.nixos.org-1'));
    expect(signed.length).toBeGreaterThan(0);
    for (const info of signed) checkTrust(info, trust, 'cache.nixos.org');
  });
});
