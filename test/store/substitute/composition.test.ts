import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openStore } from '../../../src/store/open/open-store.ts';
import { CacheServer, KEY, testPath } from '../../helpers/binary-cache.ts';
import { checkComplete, codeOf } from '../../helpers/services.ts';
import { tempDir } from '../../helpers/temp.ts';

const path = testPath('path');
const { hash } = path.info.storePath;

/** Opens what a store of its own, in front of a binary cache, is wired like in the existing programs. */
function open(dir: string, baseUrl: string, keys: readonly string[]) {
  const local = `type = "local"\npath = "${dir}/store"\n`;
  const composition = join(tempDir(), 'store.toml');
  writeFileSync(
    composition,
    `[blobservices.root]\n${local}[directoryservices.root]\n${local}[pathinfoservices.near]\n${local}
[pathinfoservices.root]
type = "combined"
near = "near"
far = "cache"
[pathinfoservices.cache]
type = "nix"
base_url = "${baseUrl}"
public_keys = ${JSON.stringify(keys)}
blob_service = "root"
directory_service = "root"
`,
  );
  return openStore({ blobs: '', directories: '', pathInfos: '', cacheDir: '/nowhere', composition }, 'write');
}

test('a binary cache in a composition fills the services that it names, once', async () => {
  const cache = await CacheServer.start([path]);
  const dir = tempDir();
  for (let i = 0; i < 2; i++) {
    const store = await open(dir, cache.origin, [KEY.publicKey.toString()]);
    await checkComplete(store, (await store.pathInfos.get(hash))!);
    await store.close();
  }
  expect(cache.asked('/nar/')).toBe(1);
});

test('a binary cache in a composition is trusted by its keys alone', async () => {
  const cache = await CacheServer.start([path]);
  const store = await open(tempDir(), cache.origin, []);
  expect(await codeOf(store.pathInfos.get(hash))).toBe('PERMISSION_DENIED');
  await store.close();
  await expect(open(tempDir(), 'ftp://host', [])).rejects.toThrow(/base_url: want nix\+https/);
});

test('a binary cache at an address fills the services that the address names, too', async () => {
  const cache = await CacheServer.start([path]);
  const dir = tempDir();
  const contents = `local://${dir}/store`;
  const into = `&blob_service=${contents}&directory_service=${contents}`;
  const addresses = {
    blobs: contents,
    directories: contents,
    pathInfos: `combined://?near=${contents}&far=${encodeURIComponent(cache.address + into)}`,
    cacheDir: '/nowhere',
  };
  for (let i = 0; i < 2; i++) {
    const store = await openStore(addresses, 'write');
    await checkComplete(store, (await store.pathInfos.get(hash))!);
    await store.close();
  }
  expect(cache.asked('/nar/')).toBe(1);
});

test('a binary cache that is the whole of a composition fills the cache of this machine, once', async () => {
  const cache = await CacheServer.start([path]);
  const dir = tempDir();
  const composition = join(dir, 'store.toml');
  const sections = ['blobservices', 'directoryservices', 'pathinfoservices'];
  const key = JSON.stringify([KEY.publicKey.toString()]);
  writeFileSync(
    composition,
    sections
      .map((one) => `[${one}.root]\ntype = "nix"\nbase_url = "${cache.origin}"\npublic_keys = ${key}\n`)
      .join(''),
  );
  const addresses = { blobs: '', directories: '', pathInfos: '', cacheDir: join(dir, 'cache'), composition };
  for (let i = 0; i < 2; i++) {
    const store = await openStore(addresses, 'write');
    expect(store.paths).toBeDefined();
    await checkComplete(store, (await store.pathInfos.get(hash))!);
    await store.close();
  }
  expect(cache.asked('/nar/')).toBe(1);
});
