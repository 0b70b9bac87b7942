import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { encodeBase32 } from '../../src/nix/base32.ts';
import { renderNar } from '../../src/store/nar/render.ts';
import type { TestPath } from '../helpers/binary-cache.ts';
import { CacheServer, KEY, testPath } from '../helpers/binary-cache.ts';
import { tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { openAt, startDaemon, startNarBridge } from '../helpers/daemon.ts';
import { http } from '../helpers/http.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { randomBytes } from '../helpers/random.ts';
import { readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file } from '../helpers/trees.ts';

const LIMIT = 2 << 20;

/** What a cache may have at the end: the limit holds on average. */
const AT_MOST = LIMIT * 1.2;

/** A path of several files of one chunk and one of many, as large as is said. */
function pathOf(name: string, size: number, references: readonly TestPath[] = []): TestPath {
  const small = Array.from({ length: 8 }, (_, i) => [`f${i}`, file(randomBytes(size / 16, `${name} ${i}`))]);
  const large = file(randomBytes(size / 2, `${name} large`));
  return testPath(name, { tree: directory({ ...Object.fromEntries(small), large }), references });
}

async function narOf({ port }: TestDaemon, { info }: TestPath): Promise<Buffer> {
  const narinfo = await http(port, `/${info.storePath.hashText}.narinfo`);
  const url = /^URL: (.*)$/m.exec(narinfo.body.toString())![1];
  return (await http(port, `/${url}`)).body;
}

async function sizeOf(cache: string): Promise<number> {
  const args = ['gc', '--max-size', '1T', '--dry-run', '--json', '--store', `local://${cache}`];
  const { stdout } = await tvixStore(args);
  return JSON.parse(stdout.trim().split('\n').at(-1)!).size;
}

test('a cache of a binary cache keeps below its size, and gives all that is there again and again', async () => {
  const paths = Array.from({ length: 8 }, (_, i) => pathOf(`path-${i}`, 800_000));
  const upstream = await CacheServer.start(paths);
  const cache = join(tempDir(), 'cache');
  const bridge = await startNarBridge(upstream.address, '127.0.0.1:0', [
    ...['--cache', cache, '--cache-size', `${LIMIT}B`],
  ]);
  for (let round = 0; round < 2; round++) {
    for (const path of paths) {
      expect((await narOf(bridge, path)).equals(Buffer.from(path.file)), path.info.url).toBe(true);
    }
  }
  await expect.poll(() => sizeOf(cache), { timeout: 30_000 }).toBeLessThanOrEqual(AT_MOST);
  expect(upstream.asked('/nar/')).toBeGreaterThan(paths.length);
  // What came last is the last to go.
  const before = upstream.asked('/nar/');
  await narOf(bridge, paths.at(-1)!);
  expect(upstream.asked('/nar/')).toBe(before);
  await bridge.stop();
  expect((await tvixStore(['fsck', '--store', `local://${cache}`])).status).toBe(0);
});

test('what is larger than the cache may be comes whole, to several at once', async () => {
  const large = pathOf('large', 3 * LIMIT);
  const upstream = await CacheServer.start([
    large,
    ...Array.from({ length: 3 }, (_, i) => pathOf(`${i}`, LIMIT)),
  ]);
  const cache = join(tempDir(), 'cache');
  const bridge = await startNarBridge(upstream.address, '127.0.0.1:0', [
    ...['--cache', cache, '--cache-size', `${LIMIT}B`],
  ]);
  const both = await Promise.all([narOf(bridge, large), narOf(bridge, large), narOf(bridge, large)]);
  for (const nar of both) expect(nar.equals(Buffer.from(large.file))).toBe(true);
  await bridge.stop();
});

describeNix('a cache with a size', () => {
  test('is a substituter of the real Nix, which remembers narinfos of what has been evicted', async () => {
    const leaf = pathOf('leaf', 800_000);
    const paths = [
      leaf,
      ...Array.from({ length: 5 }, (_, i) => pathOf(`path-${i}`, 800_000, [leaf])),
      pathOf('large', 2 * LIMIT, [leaf]),
    ];
    const upstream = await CacheServer.start(paths);
    const cache = join(tempDir(), 'cache');
    const bridge = await startNarBridge(upstream.address, '127.0.0.1:0', [
      ...['--cache', cache, '--cache-size', `${LIMIT}B`],
    ]);
    const nix = new NixUser();
    const names = paths.map(({ info }) => info.storePath.absolute());
    for (const store of ['one', 'other']) {
      for (const name of names)
        await nix.run('nix-store', [
          ...['--store', join(nix.home, store), '--option', 'substituters', `http://${bridge.at}`],
          ...['--option', 'trusted-public-keys', KEY.publicKey.toString(), '-r', name],
        ]);
      await nix.run('nix-store', ['--store', join(nix.home, store), '--verify', '--check-contents']);
    }
    expect(upstream.asked('/nar/')).toBeGreaterThan(paths.length);
    await expect.poll(() => sizeOf(cache), { timeout: 30_000 }).toBeLessThanOrEqual(AT_MOST);
    await bridge.stop();
  });
});

test('what others have evicted in part is fetched again, by the narinfo that a client remembers', async () => {
  const path = pathOf('path', 800_000);
  const upstream = await CacheServer.start([path]);
  const cache = join(tempDir(), 'cache');
  const bridge = await startNarBridge(upstream.address, '127.0.0.1:0', ['--cache', cache]);
  const url = `/nar/${encodeBase32(path.info.narSha256)}.nar?hash=${path.info.storePath.hashText}`;
  for (const size of ['500K', '300K', '0B']) {
    expect((await narOf(bridge, path)).equals(Buffer.from(path.file))).toBe(true);
    await tvixStore(['gc', '--max-size', size, '--store', `local://${cache}`]);
    expect((await http(bridge.port, url)).body.equals(Buffer.from(path.file))).toBe(true);
    const part = await http(bridge.port, url, { headers: { range: 'bytes=400000-400099' } });
    expect(part.body.equals(Buffer.from(path.file.subarray(400_000, 400_100)))).toBe(true);
  }
  await bridge.stop();
});

test('a daemon over a binary cache gives what has been evicted to who asks for the path again', async () => {
  const paths = Array.from({ length: 10 }, (_, i) => pathOf(`path-${i}`, 800_000));
  const upstream = await CacheServer.start(paths);
  const daemon = await startDaemon(upstream.address, '127.0.0.1:0', [
    ...['--cache', join(tempDir(), 'cache'), '--cache-size', `${LIMIT}B`],
  ]);
  const client = await openAt(daemon.url);
  for (let round = 0; round < 2; round++) {
    for (const { info, file: nar } of paths) {
      const { node } = (await client.pathInfos.get(info.storePath.hash))!;
      expect((await buffer(renderNar(client, node))).equals(nar), info.url).toBe(true);
    }
  }
  await client.close();
  expect(upstream.asked('/nar/')).toBeGreaterThan(paths.length);
  await daemon.stop();
});

test('a daemon with a near store keeps that below its size', async () => {
  const dir = tempDir();
  const far = await startDaemon(`local://${dir}/far`);
  const near = `${dir}/near`;
  const address = `cache://?near=${encodeURIComponent(`local://${near}`)}&far=${encodeURIComponent(far.url)}`;
  const contents = Array.from({ length: 16 }, (_, i) => randomBytes(500_000, `blob ${i}`));
  const store = await openAt(far.url);
  const put = await Promise.all(contents.map((bytes) => store.blobs.put(bytes)));
  await store.blobs.flush();
  await store.close();
  const daemon = await startDaemon(address, '127.0.0.1:0', ['--cache-size', `${LIMIT}B`]);
  const client = await openAt(daemon.url);
  for (let round = 0; round < 2; round++)
    for (const [i, { digest }] of put.entries())
      expect((await readBlob(client, digest))?.equals(contents[i]!)).toBe(true);
  await client.close();
  await expect.poll(() => sizeOf(near), { timeout: 30_000 }).toBeLessThanOrEqual(AT_MOST);
  await daemon.stop();
  await far.stop();
});
