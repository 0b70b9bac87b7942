import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { SecretKey } from '../../src/nix/key.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import { importNar } from '../../src/store/nar/import.ts';
import { openStore } from '../../src/store/open/open-store.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { SigningPathInfoService } from '../../src/store/path-info/signing.ts';
import type { Store } from '../../src/store/services.ts';
import { isRootSignedBy, isSignedBy, signaturesBy } from '../../src/store/trust/verify.ts';
import { narOf } from '../helpers/nar.ts';
import { randomBytes } from '../helpers/random.ts';
import { all, codeOf, memoryStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file } from '../helpers/trees.ts';

const KEY = SecretKey.generate('test-1');
const OTHER_KEY = SecretKey.generate('test-2');
const NAR = narOf(directory({ a: file('a'), b: directory({ c: file('c', true) }) }));

const open = () => {
  const store = memoryStore();
  return { store, signing: new SigningPathInfoService(store.pathInfos, store, KEY) };
};
const importInto = (store: Store) => importNar(store, once(NAR), 'signed');

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

describe('a signing path info service', () => {
  test('signs what is put, and keeps the signatures that are there', async () => {
    const { store, signing } = open();
    const info = await importInto(store);
    const other = OTHER_KEY.sign(info);
    const stored = await signing.put({ ...info, signatures: [other] });
    expect(stored.signatures).toEqual([other, ...signaturesBy(KEY, info)]);
    expect(await store.pathInfos.get(info.storePath.hash)).toEqual(stored);
    expect(isSignedBy(stored, [KEY.publicKey])).toBe(true);
    expect(isRootSignedBy(stored, [KEY.publicKey])).toBe(true);
    expect(await all(signing.list())).toEqual([stored]);
    expect(await signing.describe(info.storePath.hash)).toEqual(stored);
  });

  test('never has the same signature twice, and loses none when a path is put again', async () => {
    const { store, signing } = open();
    const info = await importInto(store);
    await signing.put({ ...info, signatures: [OTHER_KEY.sign(info), OTHER_KEY.sign(info)] });
    const stored = await signing.put(info);
    expect(stored.signatures.map(({ name }) => name).sort()).toEqual(['test-1', 'test-1.castore', 'test-2']);
  });

  test('does not take over signatures of something else under the same path', async () => {
    const { store, signing } = open();
    const info = await importInto(store);
    const before = { ...info, narSize: 7n };
    await store.pathInfos.put({ ...before, signatures: [OTHER_KEY.sign(before)] });
    expect((await signing.put(info)).signatures).toEqual(signaturesBy(KEY, info));
  });

  test('does not take its signature for Nix as a word on the root, which it signs only after another look', async () => {
    const { store, signing } = open();
    const info = await importInto(store);
    const other = await importNar(store, once(narOf(directory({ a: file('b') }))), 'other');
    // Somebody has put another root under what was signed.
    const forged = { ...info, node: other.node, signatures: [KEY.sign(info)] };
    await store.pathInfos.put(forged);
    expect(await codeOf(signing.put(forged))).toBe('INVALID_ARGUMENT');
    // One that was signed before there were such signatures gets its own.
    await store.pathInfos.put({ ...info, signatures: [KEY.sign(info)] });
    expect((await signing.put(info)).signatures).toEqual(signaturesBy(KEY, info));
  });

  test.each<[string, (info: PathInfo) => PathInfo, string]>([
    [
      'another NAR hash',
      ({ ca: _, ...info }) => ({ ...info, narSha256: randomBytes(32) }),
      'its NAR has the hash sha256:',
    ],
    [
      'another NAR size',
      (info) => ({ ...info, narSize: info.narSize + 1n }),
      'its NAR has 680 bytes, not 681',
    ],
    [
      'another content address',
      (info) => ({ ...info, ca: { type: 'fixed:r:sha256', digest: randomBytes(32) } }),
      'its contents are not those of fixed:r:sha256:',
    ],
    [
      'a path that does not follow from its address',
      (info) => ({ ...info, storePath: StorePath.of(info.storePath.hash, 'renamed') }),
      'its path does not follow from fixed:r:sha256:',
    ],
    [
      'the address of a file, which it is not',
      (info) => ({ ...info, ca: { type: 'fixed:sha256', digest: info.narSha256 } }),
      'its contents are not those of fixed:sha256:',
    ],
    [
      'contents that are not there',
      ({ ca: _, ...info }) => ({ ...info, node: { kind: 'directory', digest: Digest.hash(NAR), size: 3n } }),
      'is missing',
    ],
  ])('refuses %s', async (_, change, message) => {
    const { store, signing } = open();
    const info = change(await importInto(store));
    await expect(signing.put(info)).rejects.toThrow(message);
    expect(await codeOf(signing.put(info))).toBe('INVALID_ARGUMENT');
  });

  test.each([
    ['a parameter', (inner: string, key: string) => `${inner}?signing-key-file=${key}`],
    [
      'an address of its own',
      (inner: string, key: string) => `keyfile-signing://?inner=${inner}&keyfile=${key}`,
    ],
  ])('comes with %s, and reads contents wherever they are', async (_, address) => {
    const dir = tempDir();
    const keyFile = join(dir, 'a key&');
    writeFileSync(keyFile, KEY.secret(), { mode: 0o600 });
    const store = await openStore(
      {
        blobs: `local://${dir}/contents`,
        directories: `local://${dir}/contents`,
        pathInfos: address(`local://${dir}/infos`, encodeURIComponent(keyFile)),
        cacheDir: '/nowhere',
      },
      'write',
    );
    const info = await importInto(store);
    expect(info.signatures).toEqual(signaturesBy(KEY, info));
    await store.close();
  });
});
