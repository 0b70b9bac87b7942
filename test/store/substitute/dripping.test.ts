import { afterAll, expect, test } from 'vitest';
import type { TestPath } from '../../helpers/binary-cache.ts';
import { CacheServer, openCached, testPath } from '../../helpers/binary-cache.ts';
import { randomBytes } from '../../helpers/random.ts';
import { checkComplete, codeOf } from '../../helpers/services.ts';
import { directory, file } from '../../helpers/trees.ts';

/** More than a cache has places. */
const PATHS = 12;
const paths = Array.from({ length: PATHS }, (_, i) =>
  testPath(`path-${i}`, { tree: directory({ file: file(randomBytes(20_000, `path ${i}`)) }) }),
);
const narOf = ({ info }: TestPath) => `/${info.url}`;
const narInfoOf = ({ info }: TestPath) => `/${info.storePath.hashText}.narinfo`;

const timers = new Set<NodeJS.Timeout>();
afterAll(() => {
  for (const timer of timers) clearInterval(timer);
});

/** Has a cache send a file a byte now and then: it is right as far as it comes, and it would take hours. */
function drip(cache: CacheServer, path: string): void {
  const contents = Buffer.from(cache.files.get(path)!);
  cache.twists.set(path, (_, response) => {
    let sent = 0;
    const send = () => response.write(contents.subarray(sent, ++sent));
    const timer = setInterval(send, 500);
    timers.add(timer);
    response.on('close', () => clearInterval(timer));
    send();
  });
}

/** Opens two caches as one store; the first is preferred. */
async function openBoth(first: CacheServer, second: CacheServer) {
  return openCached(`${first.address}&substituter=${encodeURIComponent(`nix+${second.origin}`)}`);
}

test('a cache whose NARs drip keeps nobody from those of another', async () => {
  const dripping = await CacheServer.start(paths, 'Priority: 1\n');
  const good = await CacheServer.start(paths, 'Priority: 2\n');
  for (const path of paths) drip(dripping, narOf(path));
  const store = await openBoth(dripping, good);
  const infos = await Promise.all(paths.map(({ info }) => store.pathInfos.get(info.storePath.hash)));
  for (const info of infos) await checkComplete(store, info!);
  expect(good.asked('/nar/')).toBe(PATHS);
  // From now on the other is asked first.
  const one = testPath('one-more');
  for (const cache of [dripping, good]) cache.add(one);
  const asked = dripping.asked('/nar/');
  await checkComplete(store, (await store.pathInfos.get(one.info.storePath.hash))!);
  expect(dripping.asked('/nar/')).toBe(asked);
});

test('a cache that drips takes no places of another', async () => {
  const only = testPath('only-there', { tree: directory({ file: file(randomBytes(20_000, 'only')) }) });
  const dripping = await CacheServer.start(paths);
  const good = await CacheServer.start([only]);
  for (const path of paths) drip(dripping, narOf(path));
  const store = await openBoth(dripping, good);
  const stuck = paths.map(({ info }) => store.pathInfos.get(info.storePath.hash).catch(() => {}));
  await expect.poll(() => dripping.asked('/nar/'), { timeout: 10_000 }).toBeGreaterThan(7);
  await checkComplete(store, (await store.pathInfos.get(only.info.storePath.hash))!);
  await store.close();
  await Promise.all(stuck);
});

test('a NAR that comes slowly, but from nowhere else, comes', async () => {
  const [path] = paths;
  const slow = await CacheServer.start(paths);
  const absent = await CacheServer.start();
  const whole = slow.files.get(narOf(path!)) as Uint8Array;
  slow.twists.set(narOf(path!), (_, response) => {
    response.setHeader('content-length', whole.length);
    let sent = 0;
    const timer = setInterval(() => {
      const part = whole.subarray(sent, sent + 2000);
      sent += part.length;
      if (sent < whole.length) response.write(part);
      else {
        response.end(part);
        clearInterval(timer);
      }
    }, 500);
    timers.add(timer);
  });
  const store = await openBoth(slow, absent);
  await checkComplete(store, (await store.pathInfos.get(path!.info.storePath.hash))!);
});

test('a narinfo that drips is given up, and said to be', { timeout: 60_000 }, async () => {
  const [path, other] = paths;
  const dripping = await CacheServer.start(paths);
  const good = await CacheServer.start([other!]);
  for (const one of paths) drip(dripping, narInfoOf(one));
  const store = await openBoth(dripping, good);
  await checkComplete(store, (await store.pathInfos.get(other!.info.storePath.hash))!);
  expect(await codeOf(store.pathInfos.get(path!.info.storePath.hash))).toBe('UNAVAILABLE');
});
