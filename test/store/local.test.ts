import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { LocalStore } from '../../src/castore/local/store.ts';
import { parseSignature } from '../../src/nix/signature.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import { LocalPathInfoService } from '../../src/store/path-info/local.ts';
import { blobServiceContract } from '../contract/blobs.ts';
import { directoryServiceContract } from '../contract/directories.ts';
import { pathInfo, pathInfoServiceContract } from '../contract/path-infos.ts';
import { localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

describe('a local store', () => {
  const open = async () => localStore(tempDir());
  blobServiceContract(open);
  directoryServiceContract(open);
  pathInfoServiceContract(open);
});

test('what another one changes in the same directory is seen, though it was read before', async () => {
  const dir = tempDir();
  const [one, other] = [localStore(dir), localStore(dir)];
  const info = { ...pathInfo('path'), signatures: [] };
  const { hash } = info.storePath;
  await one.pathInfos.put(info);
  expect((await other.pathInfos.get(hash))?.signatures).toEqual([]);
  const signature = parseSignature(`key:${Buffer.alloc(64, 1).toString('base64')}`);
  await one.pathInfos.put({ ...info, signatures: [signature] });
  // As at the next event.
  await new Promise((resolve) => setTimeout(resolve, 10));
  expect((await other.pathInfos.get(hash))?.signatures).toEqual([signature]);
  for (const store of [one, other]) await store.close();
});

test('a list of many path infos lets others have their turn', async () => {
  const store = LocalStore.open(tempDir(), 'store');
  const pathInfos = new LocalPathInfoService(store);
  const info = pathInfo('path');
  const put = () => pathInfos.put({ ...info, storePath: StorePath.of(randomBytes(20), 'path') });
  await Promise.all(Array.from({ length: 2000 }, put));
  let isListing = true;
  let turns = 0;
  const turn = () => {
    turns++;
    if (isListing) setImmediate(turn);
  };
  setImmediate(turn);
  expect(await Array.fromAsync(pathInfos.list())).toHaveLength(2000);
  isListing = false;
  expect(turns).toBeGreaterThan(2);
  await store.close();
});
