import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { BinaryCache } from '../../../src/store/substitute/binary-cache.ts';
import type { HttpPatience } from '../../../src/store/substitute/http-client.ts';
import { HttpCacheFiles } from '../../../src/store/substitute/http-files.ts';
import { Substituter } from '../../../src/store/substitute/substituter.ts';
import type { Twist } from '../../helpers/binary-cache.ts';
import { CacheServer, KEY, openCached, sendFile, TRUSTED, testPath } from '../../helpers/binary-cache.ts';
import { TcpProxy } from '../../helpers/proxy.ts';
import { randomBytes } from '../../helpers/random.ts';
import { checkComplete, codeOf, memoryStore } from '../../helpers/services.ts';
import { tempDir } from '../../helpers/temp.ts';
import { file } from '../../helpers/trees.ts';

const path = testPath('path', { tree: file(randomBytes(900_000, 'path')) });
const contents = Buffer.from(path.file);
const { hash, hashText } = path.info.storePath;
const narInfoPath = `/${hashText}.narinfo`;
const narPath = `/${path.info.url}`;
const narInfoText = path.info.toString();

/** Takes the path from a cache that has been arranged; checks it. */
async function take(arrange: (cache: CacheServer) => void): Promise<CacheServer> {
  const cache = await CacheServer.start([path]);
  arrange(cache);
  const store = await openCached(cache.address);
  await checkComplete(store, (await store.pathInfos.get(hash))!);
  return cache;
}

/** Takes paths from a cache with some patience. */
function substituterOf(cache: CacheServer, patience: HttpPatience): Substituter {
  const files = new HttpCacheFiles(new URL(`${cache.origin}/`), undefined, patience);
  const trust = { keys: [KEY.publicKey], everything: false };
  return new Substituter([new BinaryCache(files, { trust })], memoryStore());
}

/** Sends a part of the NAR and hangs up, so often. */
function cutting(times: number, length: number, rest: Twist = () => false): Twist {
  return (request, response, count) => {
    if (count >= times) return rest(request, response, count);
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    if (start > 0)
      response.setHeader('content-range', `bytes ${start}-${contents.length - 1}/${contents.length}`);
    response.writeHead(start > 0 ? 206 : 200, { 'content-length': contents.length - start, etag: '"1"' });
    response.write(contents.subarray(start, start + length), () => response.destroy());
  };
}

describe('a transfer that is cut off', () => {
  test('goes on where it ended', async () => {
    const cache = await take(({ twists }) => twists.set(narPath, cutting(3, 200_000)));
    const ranges = cache.requests.filter((one) => one.path === narPath).map(({ headers }) => headers.range);
    expect(ranges).toEqual([undefined, 'bytes=200000-', 'bytes=400000-', 'bytes=600000-']);
    expect(cache.requests.at(-1)?.headers['if-range']).toBe('"1"');
  });

  test('begins anew where the server cannot begin in the middle', async () => {
    const anew: Twist = (_, response) => response.end(contents);
    await take(({ twists }) => twists.set(narPath, cutting(1, 200_000, anew)));
  });

  test('is noticed by its length where the server does not tell', async () => {
    const cache = await take(({ twists }) =>
      twists.set(narPath, (_, response, count) => {
        if (count > 0) return false;
        response.shouldKeepAlive = false;
        response.writeHead(200, { 'transfer-encoding': 'identity' });
        return response.end(contents.subarray(0, 300_000));
      }),
    );
    expect(cache.requests.at(-1)?.headers.range).toBe('bytes=300000-');
  });

  test('that lacks nothing but its end is whole', async () => {
    const lies = { fileHash: undefined, fileSize: undefined };
    const packed = testPath('whole', { compression: 'gzip', compress: gzipSync, lies });
    const { info, file: bytes } = packed;
    const cache = await CacheServer.start([packed]);
    const cut: Twist = ({ headers }, response) => {
      if (!headers.range) {
        // In pieces of which the last one, that is empty, never comes.
        response.write(bytes);
        return setTimeout(() => response.destroy(), 100);
      }
      response.writeHead(416, { 'content-range': `bytes */${bytes.length}` });
      return response.end();
    };
    cache.twists.set(`/${info.url}`, cut);
    const store = await openCached(cache.address);
    await checkComplete(store, (await store.pathInfos.get(info.storePath.hash))!);
    expect(cache.asked(`/${info.url}`)).toBe(2);
  });

  test('does not go on in another encoding', async () => {
    const cache = await CacheServer.start([path]);
    const packed: Twist = (_, response, count) => {
      if (count > 1) return false;
      response.setHeader('content-encoding', 'gzip');
      return response.end(gzipSync(contents));
    };
    cache.twists.set(narPath, cutting(1, 200_000, packed));
    const store = await openCached(cache.address);
    await checkComplete(store, (await store.pathInfos.get(hash))!);
    expect(cache.asked(narPath)).toBe(3);
  });

  test('is given up when nothing comes of it, and the path is not there', async () => {
    const cache = await CacheServer.start([path]);
    cache.twists.set(narPath, cutting(Number.POSITIVE_INFINITY, 0));
    const store = await openCached(cache.address);
    expect(await codeOf(store.pathInfos.get(hash))).toBe('UNAVAILABLE');
    expect(cache.asked(narPath)).toBe(5);
  });

  test('is refused when it goes on somewhere else', async () => {
    const cache = await CacheServer.start([path]);
    const elsewhere: Twist = (_, response) => {
      response.writeHead(206, { 'content-range': `bytes 5-${contents.length - 1}/${contents.length}` });
      return response.end(contents.subarray(5));
    };
    cache.twists.set(narPath, cutting(1, 200_000, elsewhere));
    const store = await openCached(cache.address);
    expect(await codeOf(store.pathInfos.get(hash))).toBe('DATA_LOSS');
  });
});

describe('connections that are dropped without a word', () => {
  /** Far less than the minute that it would take otherwise. */
  const SOON_MS = 20_000;
  const timed = async (work: () => Promise<unknown>) => {
    const begun = performance.now();
    await work();
    return performance.now() - begun;
  };

  /** A cache behind a proxy, and what opens it. */
  async function behindProxy() {
    const cache = await CacheServer.start([path]);
    const proxy = await TcpProxy.start(Number(new URL(cache.origin).port));
    const address = `nix+http://${new URL(proxy.url.replace('grpc+', '')).host}${TRUSTED}`;
    return { cache, proxy, store: await openCached(address) };
  }

  test('cost some seconds, between requests and in the middle of one', async () => {
    const { proxy, store } = await behindProxy();
    expect(await store.pathInfos.describe(hash)).toBeDefined();
    proxy.forget();
    proxy.rate = 300_000;
    const before = proxy.down;
    const getting = timed(async () => checkComplete(store, (await store.pathInfos.get(hash))!));
    while (proxy.down - before < 300_000) await delay(20);
    proxy.forget();
    proxy.rate = Number.POSITIVE_INFINITY;
    expect(await getting).toBeLessThan(SOON_MS);
  });

  test('are told from a server that thinks for long', async () => {
    const { cache, store } = await behindProxy();
    for (const [at, text] of [
      [narInfoPath, narInfoText],
      [narPath, contents],
    ] as const)
      cache.twists.set(at, (_, response) => void setTimeout(() => response.end(text), 5000));
    expect(await timed(() => store.pathInfos.get(hash))).toBeLessThan(SOON_MS);
    // Once more each, over a fresh connection.
    for (const at of [narInfoPath, narPath]) expect(cache.asked(at)).toBeLessThanOrEqual(2);
  });
});

describe('a server', () => {
  test.each([404, 403, 410])('that answers %i does not have the path', async (status) => {
    const cache = await CacheServer.start([path]);
    cache.twists.set(narInfoPath, (_, response) => response.writeHead(status).end('no'));
    const store = await openCached(cache.address);
    expect(await store.pathInfos.get(hash)).toBeUndefined();
    expect(cache.asked(narInfoPath)).toBe(1);
  });

  test.each([500, 503, 429, 408])('that answers %i is asked again', async (status) => {
    const cache = await take(({ twists }) =>
      twists.set(narInfoPath, (_, response, count) => count < 2 && response.writeHead(status).end('busy')),
    );
    expect(cache.asked(narInfoPath)).toBe(3);
  });

  test('that keeps failing is an error, not an absent path, and is not asked without a pause', async () => {
    const cache = await CacheServer.start([path]);
    cache.twists.set(narInfoPath, (_, response) => response.writeHead(500, { 'retry-after': '0' }).end());
    const substituter = substituterOf(cache, { idleMs: 1000, pauseMs: 10, awayMs: 500 });
    await expect(substituter.fetch(hash)).rejects.toThrow(/the server answered 500/);
    expect(cache.asked(narInfoPath)).toBeGreaterThan(3);
    expect(cache.asked(narInfoPath)).toBeLessThan(20);
    cache.twists.clear();
    expect(await substituter.fetch(hash)).toBeDefined();
    await substituter.close();
  });

  test.each([404, 500, 302])(
    'that answers %i with a page that never ends keeps nobody waiting',
    async (status) => {
      const cache = await CacheServer.start([path]);
      cache.twists.set(narInfoPath, (_, response, count) => {
        if (count > 0) return false;
        response.writeHead(status, { location: narInfoPath });
        const timer = setInterval(() => response.write('x'), 20);
        response.on('close', () => clearInterval(timer));
        return true;
      });
      const substituter = substituterOf(cache, { idleMs: 60_000, pauseMs: 10, awayMs: 10_000 });
      const info = await substituter.fetch(hash);
      if (status === 404) expect(info).toBeUndefined();
      else expect(info).toBeDefined();
      await substituter.close();
    },
  );

  test('that never comes to the end of its headers is given up', async () => {
    const cache = await CacheServer.start([path]);
    cache.twists.set(narInfoPath, (_, response) => {
      const timer = setInterval(() => response.writeProcessing(), 20);
      response.on('close', () => clearInterval(timer));
    });
    const substituter = substituterOf(cache, { idleMs: 300, pauseMs: 10, awayMs: 100 });
    expect(await codeOf(substituter.fetch(hash))).toBe('UNAVAILABLE');
    await substituter.close();
  });

  test('that does not answer is asked again over fresh connections until it does', {
    timeout: 30_000,
  }, async () => {
    const cache = await CacheServer.start([path]);
    const SILENT = 2;
    cache.twists.set(narInfoPath, (_, __, count) => count < SILENT);
    const substituter = substituterOf(cache, { idleMs: 60_000, pauseMs: 10, awayMs: 60_000 });
    expect(await substituter.fetch(hash)).toBeDefined();
    expect(cache.asked(narInfoPath)).toBe(SILENT + 1);
    await substituter.close();
  });

  test('that does not answer though it answers others is asked again beside, by one at a time', async () => {
    const others = Array.from({ length: 6 }, (_, i) => testPath(`lost-${i}`));
    const cache = await CacheServer.start([path, ...others]);
    const lost = others.map(({ info }) => `/${info.storePath.hashText}.narinfo`);
    for (const one of lost) cache.twists.set(one, (_, __, count) => count === 0);
    const files = new HttpCacheFiles(new URL(`${cache.origin}/`), undefined, {
      idleMs: 60_000,
      pauseMs: 10,
      awayMs: 60_000,
    });
    const { signal } = new AbortController();
    const read = async (one: string) => buffer((await files.read(one.slice(1), { signal }))!);
    let waiting = lost.length;
    const answers = lost.map((one) => read(one).finally(() => waiting--));
    for (; waiting > 0; await delay(50)) await read(narInfoPath);
    for (const [i, answer] of (await Promise.all(answers)).entries())
      expect(answer.toString()).toBe(others[i]!.info.toString());
    for (const one of lost) expect(cache.asked(one)).toBe(2);
    await files.close();
  });

  test('that is only slow is asked for few things again', async () => {
    const others = Array.from({ length: 20 }, (_, i) => testPath(`slow-${i}`));
    const cache = await CacheServer.start([path, ...others]);
    const slow = others.map(({ info }) => `/${info.storePath.hashText}.narinfo`);
    const enough = Promise.withResolvers<void>();
    for (const one of slow) cache.twists.set(one, (_, response) => enough.promise.then(() => response.end()));
    const files = new HttpCacheFiles(new URL(`${cache.origin}/`), undefined, {
      idleMs: 60_000,
      pauseMs: 10,
      awayMs: 60_000,
    });
    const { signal } = new AbortController();
    const answers = slow.map((one) => files.read(one.slice(1), { signal }));
    for (let i = 0; i < 100; i++, await delay(50)) await files.read(narInfoPath.slice(1), { signal });
    expect(cache.asked('/') - cache.asked(narInfoPath)).toBeLessThan(slow.length + 4);
    enough.resolve();
    await Promise.all(answers);
    await files.close();
  });

  test('that wants to be left alone for long is', async () => {
    const cache = await CacheServer.start([path]);
    cache.twists.set(narInfoPath, (_, response) => response.writeHead(429, { 'retry-after': '3600' }).end());
    const store = await openCached(cache.address);
    expect(await codeOf(store.pathInfos.get(hash))).toBe('UNAVAILABLE');
    expect(cache.asked(narInfoPath)).toBe(1);
  });

  test.each(['nothing at all', 'a part and then nothing'])('that sends %s is given up', async (what) => {
    const cache = await CacheServer.start([path]);
    cache.twists.set(narPath, (_, response) => {
      if (what === 'nothing at all') return;
      response.writeHead(200, { 'content-length': contents.length });
      response.write(contents.subarray(0, 10));
    });
    const substituter = substituterOf(cache, { idleMs: 100, pauseMs: 1, awayMs: 100 });
    expect(await codeOf(substituter.fetch(hash))).toBe('UNAVAILABLE');
    await substituter.close();
  });

  test('that cannot be reached is named', async () => {
    const store = await openCached(`nix+http://127.0.0.1:1${TRUSTED}`);
    await expect(store.pathInfos.get(hash)).rejects.toThrow(/127\.0\.0\.1:1.*the connection is refused/);
  });

  test('may compress what it sends', async () => {
    const compressed =
      (plain: string | Uint8Array): Twist =>
      (_, response) =>
        response.writeHead(200, { 'content-encoding': 'x-gzip' }).end(gzipSync(plain));
    await take(({ twists }) => {
      twists.set(narInfoPath, compressed(narInfoText));
      twists.set(narPath, compressed(contents));
    });
  });
});

describe('a redirect', () => {
  const redirect =
    (to: string): Twist =>
    (_, response) =>
      response.writeHead(302, { location: to }).end();

  test('is followed, there and to other servers, which get no credentials', async () => {
    const other = await CacheServer.start([path]);
    const cache = await CacheServer.start([path]);
    cache.twists.set(narInfoPath, redirect('/elsewhere'));
    cache.files.set('/elsewhere', narInfoText);
    cache.twists.set(narPath, redirect(`${other.origin}${narPath}`));
    const store = await openCached(cache.address.replace('//', '//user:secret%40@'));
    await checkComplete(store, (await store.pathInfos.get(hash))!);
    const basic = `Basic ${Buffer.from('user:secret@').toString('base64')}`;
    expect(cache.requests.map(({ headers }) => headers.authorization)).toEqual(Array(4).fill(basic));
    expect(other.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });

  test('that leads nowhere is refused', async () => {
    const cache = await CacheServer.start([path]);
    cache.twists.set(narInfoPath, (_, response) => response.writeHead(302).end());
    const store = await openCached(cache.address);
    await expect(store.pathInfos.get(hash)).rejects.toThrow('302 without saying where to go');
    expect(cache.asked('/undefined')).toBe(0);
  });

  test('that never ends, or leads off the web, is refused', async () => {
    for (const to of [narInfoPath, 'file:///etc/passwd']) {
      const cache = await CacheServer.start([path]);
      cache.twists.set(narInfoPath, redirect(to));
      const store = await openCached(cache.address);
      await expect(store.pathInfos.get(hash)).rejects.toThrow(/redirected more than|must not lead/);
    }
  });
});

describe('credentials', () => {
  const guarded: Twist = ({ headers }, response) =>
    headers.authorization !== `Basic ${Buffer.from('me:pass word').toString('base64')}` &&
    response.writeHead(401).end();

  test('come from a netrc file', async () => {
    const netrc = join(tempDir(), 'netrc');
    writeFileSync(
      netrc,
      'machine elsewhere login x password y\nmachine 127.0.0.1 login me password "pass word"\n',
    );
    const cache = await CacheServer.start([path]);
    for (const name of ['/nix-cache-info', narInfoPath, narPath]) cache.twists.set(name, guarded);
    const store = await openCached(`${cache.address}&netrc-file=${encodeURIComponent(netrc)}`);
    await checkComplete(store, (await store.pathInfos.get(hash))!);
    const without = await openCached(cache.address);
    await expect(without.pathInfos.get(hash)).rejects.toThrow(
      /credentials are missing or not accepted.*netrc-file/,
    );
  });

  test('are in no error', async () => {
    const cache = await CacheServer.start([path]);
    cache.twists.set(narInfoPath, (_, response) => response.writeHead(401).end());
    const store = await openCached(cache.address.replace('//', '//user:secret@'));
    await expect(store.pathInfos.get(hash)).rejects.toThrow(/^(?!.*secret).*401/s);
  });
});

test('a file may be sent in ranges only when that was asked for', async () => {
  const cache = await CacheServer.start([path]);
  cache.twists.set(narPath, (request, response) =>
    sendFile({ ...request, headers: { range: 'bytes=10-' } }, response, contents),
  );
  const store = await openCached(cache.address);
  await expect(store.pathInfos.get(hash)).rejects.toThrow(/answered 206/);
});
