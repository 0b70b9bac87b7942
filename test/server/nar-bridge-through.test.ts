import { once } from 'node:events';
import { get } from 'node:http';
import { expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { keyOf } from '../../src/castore/objects/object-store.ts';
import { encodeBase32 } from '../../src/nix/base32.ts';
import type { TestPath } from '../helpers/binary-cache.ts';
import { CacheServer, testPath } from '../helpers/binary-cache.ts';
import { startNarBridge } from '../helpers/daemon.ts';
import { http } from '../helpers/http.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { randomBytes } from '../helpers/random.ts';
import { localStore } from '../helpers/services.ts';
import { putStorePath } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file } from '../helpers/trees.ts';

const NAR_LENGTH = 3_000_000;

/** A cache that sends half of a NAR, and the rest when it is told to; and a bridge over it. */
async function given(path: TestPath = testPath('path', { tree: file(randomBytes(NAR_LENGTH, 'through')) })) {
  const cache = await CacheServer.start([path]);
  const rest = Promise.withResolvers<void>();
  cache.twists.set(`/${path.info.url}`, (_, response) => {
    const { length } = path.file;
    response.writeHead(200, { 'content-length': length });
    response.write(path.file.subarray(0, length / 2));
    void rest.promise.then(() => response.end(path.file.subarray(length / 2)));
  });
  const bridge = await startNarBridge(cache.address, '127.0.0.1:0', ['--cache', tempDir()]);
  const { storePath, narSha256 } = path.info;
  const url = `/nar/${encodeBase32(narSha256)}.nar?hash=${storePath.hashText}`;
  return { path, cache, bridge, url, goOn: rest.resolve };
}

/** A NAR as it comes: what has come so far, and how it ended. */
async function begin(port: number, path: string) {
  const request = get({ host: '127.0.0.1', port, path });
  const [response] = await once(request, 'response');
  const parts: Buffer[] = [];
  response.on('data', (part: Buffer) => parts.push(part));
  const ended = new Promise<string>((resolve) => {
    response.once('end', () => resolve('whole'));
    response.once('error', () => resolve('cut'));
  });
  return { ended, bytes: () => Buffer.concat(parts) };
}

test('what comes from elsewhere goes on as it comes, and to others when it is there', async () => {
  const { path, bridge, url, goOn, cache } = await given();
  const first = await begin(bridge.port, url);
  await expect.poll(() => first.bytes().length, { timeout: 10_000 }).toBeGreaterThan(NAR_LENGTH / 3);
  const late = http(bridge.port, url, { headers: { range: 'bytes=1000-' } });
  goOn();
  expect(await first.ended).toBe('whole');
  expect(first.bytes().equals(path.file)).toBe(true);
  expect((await late).body.equals(Buffer.from(path.file.subarray(1000)))).toBe(true);
  expect((await http(bridge.port, url)).body.equals(Buffer.from(path.file))).toBe(true);
  expect(cache.asked(`/${path.info.url}`)).toBe(1);
  await bridge.stop();
});

test('objects that a bridge does not have come from the one behind it', async () => {
  const dir = tempDir();
  const store = localStore(dir);
  const large = randomBytes(NAR_LENGTH, 'objects');
  const info = await putStorePath(store, 'objects', directory({ large: file(large) }));
  const [first] = (await store.blobs.chunks(Digest.hash(large)))!;
  const { digest: root } = info.node as { digest: Digest };
  await store.close();
  const behind = await startNarBridge(`local://${dir}`);
  const far = `nix+http://127.0.0.1:${behind.port}?trusted=1`;
  const bridge = await startNarBridge(far, '127.0.0.1:0', ['--cache', tempDir()]);
  for (const key of [keyOf('chunks', first!.digest), keyOf('blobs', Digest.hash(large)), keyOf('dirs', root)])
    expect((await http(bridge.port, `/${key}`)).status, key).toBe(200);
  const nothing = keyOf('chunks', Digest.hash(Buffer.from('nothing')));
  expect((await http(bridge.port, `/${nothing}`)).status).toBe(404);
  await bridge.stop();
  await behind.stop();
});

test('what turns out to be wrong is cut, and never comes whole', async () => {
  const right = testPath('path', { tree: file(randomBytes(NAR_LENGTH, 'right')) });
  const wrong = testPath('path', { tree: file(randomBytes(NAR_LENGTH, 'wrong')) });
  const { path, bridge, url, goOn } = await given({ info: right.info, file: wrong.file });
  const first = await begin(bridge.port, url);
  goOn();
  expect(await first.ended).toBe('cut');
  expect(first.bytes().length).toBeLessThan(path.file.length);
  await bridge.stop();
});

test('a client that leaves does not end what has begun', async () => {
  const { path, bridge, url, goOn, cache } = await given();
  const request = get({ host: '127.0.0.1', port: bridge.port, path: url });
  request.on('error', () => {});
  const [response] = await once(request, 'response');
  response.on('error', () => {});
  response.destroy();
  goOn();
  await expect
    .poll(async () => (await http(bridge.port, url)).body.equals(Buffer.from(path.file)), { timeout: 10_000 })
    .toBe(true);
  expect(cache.asked(`/${path.info.url}`)).toBe(1);
  await bridge.stop();
});

test('a cache that has gone hides nothing of what is here', async () => {
  const [here, there] = [
    testPath('here', { tree: file('here') }),
    testPath('there', { tree: file('there') }),
  ];
  const cache = await CacheServer.start([here, there]);
  const bridge = await startNarBridge(cache.address, '127.0.0.1:0', ['--cache', tempDir()]);
  const narinfo = (path: TestPath) => http(bridge.port, `/${path.info.storePath.hashText}.narinfo`);
  const nar = ({ info }: TestPath) =>
    http(bridge.port, `/nar/${encodeBase32(info.narSha256)}.nar?hash=${info.storePath.hashText}`);
  expect((await nar(here)).body.equals(Buffer.from(here.file))).toBe(true);
  cache.stop();
  expect((await narinfo(here)).status).toBe(200);
  expect((await nar(here)).body.equals(Buffer.from(here.file))).toBe(true);
  expect((await http(bridge.port, '/nix-cache-info')).status).toBe(200);
  // Whether it is there cannot be known: what says it is not would be believed.
  expect((await narinfo(there)).status).toBe(503);
  await bridge.stop();
});

test('what a cache has said of paths is kept, also for the next bridge and when the cache has gone', async () => {
  const [there, never] = [testPath('there'), testPath('never')];
  const absent = testPath('absent');
  const cache = await CacheServer.start([there, never]);
  const args = ['--cache', tempDir()];
  const ask = async ({ port }: { port: number }, { info }: TestPath) =>
    (await http(port, `/${info.storePath.hashText}.narinfo`)).status;
  const first = await startNarBridge(cache.address, '127.0.0.1:0', args);
  expect([await ask(first, there), await ask(first, absent)]).toEqual([200, 404]);
  await first.stop();
  const asked = cache.requests.length;
  const second = await startNarBridge(cache.address, '127.0.0.1:0', args);
  expect([await ask(second, there), await ask(second, absent)]).toEqual([200, 404]);
  expect(cache.requests.length).toBe(asked);
  cache.stop();
  expect([await ask(second, there), await ask(second, absent), await ask(second, never)]).toEqual([
    200, 404, 503,
  ]);
  await second.stop();
});

test('what is kept of a path is not believed when its key is no longer trusted', async () => {
  const path = testPath('path');
  const cache = await CacheServer.start([path]);
  const args = ['--cache', tempDir()];
  const first = await startNarBridge(cache.address, '127.0.0.1:0', args);
  const url = `/${path.info.storePath.hashText}.narinfo`;
  expect((await http(first.port, url)).status).toBe(200);
  await first.stop();
  const second = await startNarBridge(`nix+${cache.origin}`, '127.0.0.1:0', args);
  expect((await http(second.port, url)).status).not.toBe(200);
  await second.stop();
});

test('what is kept of a path that has gone is put right when its NAR is asked for', async () => {
  const path = testPath('path');
  const cache = await CacheServer.start([path]);
  const bridge = await startNarBridge(cache.address, '127.0.0.1:0', ['--cache', tempDir()]);
  const narinfo = () => http(bridge.port, `/${path.info.storePath.hashText}.narinfo`);
  const { body } = await narinfo();
  cache.files.clear();
  cache.files.set('/nix-cache-info', 'StoreDir: /nix/store\n');
  const url = /^URL: (.*)$/m.exec(body.toString())![1];
  await http(bridge.port, `/${url}`).catch(() => {});
  expect((await narinfo()).status).toBe(404);
  await bridge.stop();
});

describeNix('a bridge over a cache', () => {
  test('is what the real Nix copies from', async () => {
    const { path, bridge, goOn } = await given();
    goOn();
    const nix = new NixUser();
    const to = `${nix.home}/to`;
    const from = `http://${bridge.at}`;
    await nix.run('nix', [
      'copy',
      '--no-check-sigs',
      '--from',
      from,
      '--to',
      to,
      path.info.storePath.absolute(),
    ]);
    await nix.run('nix-store', ['--store', to, '--verify', '--check-contents']);
    await bridge.stop();
  });
});
