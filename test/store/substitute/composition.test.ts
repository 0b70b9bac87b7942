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
