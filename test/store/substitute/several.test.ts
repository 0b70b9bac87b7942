import { expect, test } from 'vitest';
import { CacheServer, KEY, openCached, TRUSTED, testPath } from '../../helpers/binary-cache.ts';
import { checkComplete, codeOf } from '../../helpers/services.ts';

const path = testPath('path');
const { hash, hashText } = path.info.storePath;
const narPath = `/${path.info.url}`;
const missing = testPath('missing').info.storePath;

/** Opens the caches as one store, in this order. */
function openAll(first: CacheServer, ...others: readonly CacheServer[]) {
  const rest = others.map(({ origin }) => `&substituter=${encodeURIComponent(`nix+${origin}`)}`);
  return openCached(first.address + rest.join(''));
}

test('a path comes from the cache with the lowest priority that has it', async () => {
  const slow = await CacheServer.start([path], 'Priority: 60\n');
  const fast = await CacheServer.start([path], 'Priority: 10\n');
  const empty = await CacheServer.start([], 'Priority: 1\n');
  const store = await openAll(slow, fast, empty);
  await checkComplete(store, (await store.pathInfos.get(hash))!);
  expect([slow, fast, empty].map((cache) => cache.asked('/nar/'))).toEqual([0, 1, 0]);
});

test('the priority of an address counts more than what the cache says', async () => {
  const first = await CacheServer.start([path], 'Priority: 60\n');
  const second = await CacheServer.start([path], 'Priority: 10\n');
  const store = await openCached(
    `${first.address}&priority=5&substituter=${encodeURIComponent(`nix+${second.origin}`)}`,
  );
  await store.pathInfos.get(hash);
  expect(first.asked('/nar/')).toBe(1);
});

test('one bad cache does not stop the others, whatever is wrong with it', async () => {
  const good = await CacheServer.start([path], 'Priority: 90\n');
  const failing = await CacheServer.start();
  failing.twists.set(`/${hashText}.narinfo`, (_, response) => response.writeHead(501).end());
  const silent = await CacheServer.start();
  silent.twists.set('/nix-cache-info', () => {});
  const unsigned = await CacheServer.start([testPath('path', { key: undefined })]);
  const gone = await CacheServer.start([path], 'Priority: 1\n');
  gone.files.delete(narPath);
  const broken = await CacheServer.start([path], 'Priority: 2\n');
  broken.files.set(narPath, 'not a NAR');
  const store = await openAll(failing, silent, unsigned, gone, broken, good);
  await checkComplete(store, (await store.pathInfos.get(hash))!);
  expect(gone.asked(narPath) + broken.asked(narPath)).toBe(2);
});

test('a path is absent only if every cache says so', async () => {
  const empty = await CacheServer.start();
  const failing = await CacheServer.start();
  failing.twists.set(`/${missing.hashText}.narinfo`, (_, response) => response.writeHead(501).end());
  const both = await openAll(empty, failing);
  expect(await codeOf(both.pathInfos.get(missing.hash))).toBe('UNAVAILABLE');
  failing.twists.clear();
  expect(await both.pathInfos.get(missing.hash)).toBeUndefined();
});

test('a cache of the list may have keys of its own', async () => {
  const first = await CacheServer.start();
  const second = await CacheServer.start([path]);
  const inner = encodeURIComponent(`nix+${second.origin}${TRUSTED}`);
  const store = await openCached(`nix+${first.origin}?substituter=${inner}`);
  expect((await store.pathInfos.get(hash))?.signatures[0]?.name).toBe(KEY.name);
});
