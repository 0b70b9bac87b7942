import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { SecretKey } from '../../../src/nix/key.ts';
import { toHex } from '../../../src/util/bytes.ts';
import { CacheServer, openCached, testPath } from '../../helpers/binary-cache.ts';
import { checkComplete, codeOf, readBlob } from '../../helpers/services.ts';
import { tempDir } from '../../helpers/temp.ts';
import { generateTree } from '../../helpers/trees.ts';

const library = testPath('library');
const program = testPath('program', { tree: generateTree(60, 3), references: [library] });
const { hash } = program.info.storePath;

test('a path is taken whole, with all that is known of it, and none of its references', async () => {
  const cache = await CacheServer.start([program, library]);
  const store = await openCached(cache.address);
  const info = (await store.pathInfos.get(hash))!;
  expect(info.narSize).toBe(program.info.narSize);
  expect(toHex(info.narSha256)).toBe(toHex(program.info.narSha256));
  expect(info.signatures.map(({ name }) => name)).toEqual(['test-1']);
  expect(info.references.map(String)).toEqual([library.info.storePath.toString()]);
  await checkComplete(store, info);
  expect(cache.asked('/nar/')).toBe(1);
  expect(cache.asked(`/${library.info.storePath.hashText}`)).toBe(0);
});

test('a path is fetched once, however many ask at the same time or later, also in another process', async () => {
  const cache = await CacheServer.start([program]);
  const dir = `${tempDir()}/cache`;
  const store = await openCached(cache.address, dir);
  await Promise.all(Array.from({ length: 20 }, () => store.pathInfos.get(hash)));
  await store.pathInfos.get(hash);
  const other = await openCached(cache.address, dir);
  await checkComplete(other, (await other.pathInfos.get(hash))!);
  expect(cache.asked('/nar/')).toBe(1);
  expect(cache.asked(`/${program.info.storePath.hashText}`)).toBe(1);
});

test('describing a path fetches no contents', async () => {
  const cache = await CacheServer.start([program]);
  const store = await openCached(cache.address);
  expect(await store.pathInfos.describe(hash)).toMatchObject({ narSize: program.info.narSize });
  expect(cache.asked('/nar/')).toBe(0);
  await store.pathInfos.get(hash);
  expect(await store.pathInfos.describe(hash)).toMatchObject({ narSize: program.info.narSize });
  expect(cache.asked(`/${program.info.storePath.hashText}`)).toBe(2);
});

test('a path that is not there is not asked for again for a while', async () => {
  const cache = await CacheServer.start();
  const store = await openCached(cache.address);
  for (let i = 0; i < 3; i++) {
    expect(await store.pathInfos.get(hash)).toBeUndefined();
    expect(await store.pathInfos.describe(hash)).toBeUndefined();
  }
  expect(cache.asked(`/${program.info.storePath.hashText}`)).toBe(1);
});

test('what is asked for goes on when nobody waits for it any more', async () => {
  const cache = await CacheServer.start([program]);
  const store = await openCached(cache.address);
  const leave = new AbortController();
  cache.twists.set(`/${program.info.url}`, () => {
    leave.abort();
    return false;
  });
  await expect(store.pathInfos.get(hash, leave.signal)).rejects.toThrow(/abort/);
  await checkComplete(store, (await store.pathInfos.get(hash))!);
  expect(cache.asked('/nar/')).toBe(1);
});

test('closing the store ends what is under way', async () => {
  const cache = await CacheServer.start([program]);
  const store = await openCached(cache.address);
  const stalled = new Promise<void>((resolve) => {
    cache.twists.set(`/${program.info.url}`, (_, response) => {
      response.write(program.file.subarray(0, 100));
      resolve();
    });
  });
  const waiting = codeOf(store.pathInfos.get(hash));
  await stalled;
  await store.close();
  expect(await waiting).toBe('CANCELLED');
});

test('it is only read, and cannot tell all it has', async () => {
  const cache = await CacheServer.start([program]);
  const store = await openCached(cache.address);
  const info = (await store.pathInfos.get(hash))!;
  expect(await codeOf(store.pathInfos.put(info))).toBe('FAILED_PRECONDITION');
  expect(await codeOf(() => store.pathInfos.list())).toBe('UNIMPLEMENTED');
});

test('a path comes again, contents and all, when it is wanted from its source', async () => {
  const cache = await CacheServer.start([program]);
  const store = await openCached(cache.address);
  await store.pathInfos.get(hash);
  let told = 0;
  const stop = store.paths!.watch(() => told++);
  await store.paths!.fetch(hash);
  stop();
  expect(cache.asked('/nar/')).toBe(2);
  expect(told).toBeGreaterThan(0);
});

test('a large file comes in parts, and is there as a blob', async () => {
  const contents = Buffer.alloc(20 << 20, 'large ');
  const path = testPath('large', { tree: { kind: 'file', contents, executable: true } });
  const cache = await CacheServer.start([path]);
  const store = await openCached(cache.address);
  const info = (await store.pathInfos.get(path.info.storePath.hash))!;
  if (info.node.kind !== 'file') throw new Error('not a file');
  expect(info.node).toMatchObject({ executable: true, size: BigInt(contents.length) });
  expect((await readBlob(store, info.node.digest))!.equals(contents)).toBe(true);
});

test('a signature is believed only if its key is trusted', async () => {
  const other = testPath('program', { key: SecretKey.generate('test-1') });
  const cache = await CacheServer.start([other]);
  const store = await openCached(cache.address);
  expect(await codeOf(store.pathInfos.get(other.info.storePath.hash))).toBe('PERMISSION_DENIED');
});

test('what no cache has said to have is asked for no longer than somebody waits', async () => {
  const cache = await CacheServer.start();
  const store = await openCached(cache.address);
  const { hash, hashText } = testPath('in-vain').info.storePath;
  cache.twists.set(`/${hashText}.narinfo`, (_, response) => response.writeHead(503).end());
  const waits = [AbortSignal.timeout(300), AbortSignal.timeout(400)].map((signal) =>
    store.pathInfos.get(hash, signal).catch(() => 'left'),
  );
  expect(await Promise.all(waits)).toEqual(['left', 'left']);
  const asked = cache.asked(`/${hashText}`);
  expect(asked).toBeGreaterThan(1);
  await delay(1500);
  expect(cache.asked(`/${hashText}`)).toBe(asked);
  // Nor did it spoil it for the next.
  cache.twists.clear();
  expect(await store.pathInfos.get(hash)).toBeUndefined();
});
