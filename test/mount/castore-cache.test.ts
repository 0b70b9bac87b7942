import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SecretKey } from '../../src/nix/key.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { signaturesBy } from '../../src/store/trust/verify.ts';
import { toHex } from '../../src/util/bytes.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon, startNarBridge } from '../helpers/daemon.ts';
import type { HttpAnswer } from '../helpers/http.ts';
import { http } from '../helpers/http.ts';
import { mount } from '../helpers/mount.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { localStore, sha256 } from '../helpers/services.ts';
import { putStorePath } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file } from '../helpers/trees.ts';

const KEY = SecretKey.generate('castore-1');
const TRUSTED = `?trusted-public-keys=${encodeURIComponent(KEY.publicKey.toString())}`;
const LARGE = randomBytes(6_000_000, 'large');
const LARGE_SHA256 = toHex(sha256(LARGE));
const treeOf = (name: string) =>
  directory({ small: file(`small of ${name}`), large: file(LARGE), more: directory({ deep: file(name) }) });

type Twist = (path: string, answer: HttpAnswer) => HttpAnswer | Promise<HttpAnswer>;

/** A binary cache that lies: what another one answers, twisted. */
async function lyingCache(bridge: TestDaemon, twist: Twist): Promise<string> {
  const answer = async ({ url = '', method = 'GET' }: IncomingMessage, response: ServerResponse) => {
    const { status, headers, body } = await twist(url, await http(bridge.port, url, { method }));
    const length = method === 'HEAD' ? headers['content-length'] : body.length;
    response.writeHead(status, { 'content-length': length });
    response.end(body);
  };
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  afterAll(() => {
    server.close();
    server.closeAllConnections();
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return `nix+http://127.0.0.1:${(server.address() as AddressInfo).port}${TRUSTED}`;
}

const gone = (answer: HttpAnswer): HttpAnswer => ({ ...answer, status: 404, body: Buffer.alloc(0) });
const spoilt = (answer: HttpAnswer): HttpAnswer => ({ ...answer, body: randomBytes(answer.body.length) });

describe('a binary cache whose narinfos name castore roots', () => {
  const dir = tempDir();
  const paths: Record<string, PathInfo> = {};
  let bridge: TestDaemon;
  const newCache = () => ['--cache', join(tempDir(), 'cache')];

  beforeAll(async () => {
    const store = localStore(`${dir}/far`);
    const put = async (name: string, signatures: (info: PathInfo) => PathInfo['signatures']) => {
      const info = await putStorePath(store, name, treeOf(name));
      paths[name] = await store.pathInfos.put({ ...info, signatures: signatures(info) });
    };
    await put('castore', (info) => signaturesBy(KEY, info));
    await put('nix', (info) => [KEY.sign(info)]);
    await put('next', (info) => [KEY.sign(info)]);
    await store.close();
    bridge = await startNarBridge(`local://${dir}/far`);
  });
  afterAll(() => bridge?.stop());

  type Read = (name: string, at: string) => ReturnType<typeof run>;

  /** Does something with a mount of its own; gives its log. */
  async function mounted(
    store: string,
    work: (read: Read, sum: Read) => Promise<void>,
    ...flags: string[]
  ): Promise<string> {
    const { dir: mnt, stop, log } = await mount(['--store', store, ...newCache(), ...flags]);
    const by = (program: string) => (name: string, at: string) =>
      run(program, [join(mnt, String(paths[name]!.storePath), at)]);
    await work(by('cat'), by('sha256sum'));
    await stop();
    return log();
  }

  test('is read file by file where the roots are signed', async () => {
    const proxy = await TcpProxy.start(bridge.port);
    const store = `${proxy.url.replace('grpc', 'nix')}${TRUSTED}`;
    await mounted(store, async (read, sum) => {
      expect(await read('castore', 'more/deep')).toMatchObject({ status: 0, stdout: 'castore' });
      expect(await read('castore', 'small')).toMatchObject({ status: 0, stdout: 'small of castore' });
      expect(proxy.down).toBeLessThan(100_000);
      expect((await sum('castore', 'large')).stdout).toContain(LARGE_SHA256);
      expect(proxy.down).toBeGreaterThan(6_000_000);
      expect(proxy.down).toBeLessThan(6_500_000);
    });
  });

  test('is fetched whole where only the NAR is signed, but for what is here', async () => {
    const proxy = await TcpProxy.start(bridge.port);
    const store = `${proxy.url.replace('grpc', 'nix')}${TRUSTED}`;
    await mounted(store, async (read) => {
      expect(await read('nix', 'small')).toMatchObject({ status: 0, stdout: 'small of nix' });
      expect(proxy.down).toBeGreaterThan(6_000_000);
      const { down } = proxy;
      expect(await read('next', 'small')).toMatchObject({ status: 0, stdout: 'small of next' });
      expect(proxy.down - down).toBeLessThan(100_000);
    });
  });

  test('is read by castore from a later mount, too, and whole by commands', async () => {
    const proxy = await TcpProxy.start(bridge.port);
    const store = `${proxy.url.replace('grpc', 'nix')}${TRUSTED}`;
    const cache = newCache();
    const once = async (at: string) => {
      const { dir: mnt, stop } = await mount(['--store', store, ...cache]);
      const read = await run('cat', [join(mnt, String(paths.castore!.storePath), at)]);
      await stop();
      return read;
    };
    expect(await once('small')).toMatchObject({ status: 0 });
    expect(await once('more/deep')).toMatchObject({ status: 0, stdout: 'castore' });
    expect(proxy.down).toBeLessThan(100_000);
    const path = paths.castore!.storePath.absolute();
    const cat = await tvixStore(['cat', '--store', store, ...cache, `${path}/small`]);
    expect(cat).toMatchObject({ status: 0, stdout: 'small of castore' });
    expect(await tvixStore(['verify', '--store', `local://${cache[1]}`, path])).toMatchObject({ status: 0 });
  });

  const isNar = (path: string) => path.startsWith('/nar/');
  const lies: [string, Twist][] = [
    ['has no objects', (path, answer) => (isNar(path) || path.endsWith('.narinfo') ? answer : gone(answer))],
    ['lacks chunks', (path, answer) => (path.startsWith('/chunks') ? gone(answer) : answer)],
    ['lacks directories', (path, answer) => (path.startsWith('/dirs') ? gone(answer) : answer)],
    ['lacks lists of chunks', (path, answer) => (path.startsWith('/blobs') ? gone(answer) : answer)],
    ['has wrong chunks', (path, answer) => (path.startsWith('/chunks') ? spoilt(answer) : answer)],
    ['has wrong lists of chunks', (path, answer) => (path.startsWith('/blobs') ? spoilt(answer) : answer)],
    ['has wrong directories', (path, answer) => (path.startsWith('/dirs') ? spoilt(answer) : answer)],
    ['fails', (path, answer) => (/^\/(chunks|dirs|blobs)/.test(path) ? { ...answer, status: 500 } : answer)],
    [
      'is slow',
      async (path, answer) => {
        await delay(path.startsWith('/chunks') ? 100 : 0);
        return answer;
      },
    ],
  ];
  test.each(lies)('gives the right bytes when it %s', async (_, twist) => {
    const log = await mounted(await lyingCache(bridge, twist), async (read, sum) => {
      for (const name of ['castore', 'nix']) {
        expect(await read(name, 'small')).toMatchObject({ status: 0, stdout: `small of ${name}` });
        expect(await read(name, 'more/deep')).toMatchObject({ status: 0, stdout: name });
        expect((await sum(name, 'large')).stdout).toContain(LARGE_SHA256);
      }
    });
    expect(log).not.toContain('    at ');
  });

  test('needs no objects where a mirror has the contents', async () => {
    const asked: string[] = [];
    const store = await lyingCache(bridge, (path, answer) => {
      asked.push(path);
      return path.endsWith('.narinfo') ? answer : gone(answer);
    });
    const daemon = await startDaemon(`local://${dir}/far`);
    const proxy = await TcpProxy.start(daemon.port);
    const work = async (read: Read, sum: Read) => {
      expect(await read('castore', 'small')).toMatchObject({ status: 0, stdout: 'small of castore' });
      expect(proxy.down).toBeLessThan(100_000);
      expect(await read('nix', 'more/deep')).toMatchObject({ status: 0, stdout: 'nix' });
      expect((await sum('nix', 'large')).stdout).toContain(LARGE_SHA256);
    };
    await mounted(store, work, '--mirror', proxy.url);
    expect(asked.filter(isNar)).toEqual([]);
    const path = paths.next!.storePath.absolute();
    const flags = ['--store', store, '--mirror', daemon.url, ...newCache()];
    expect(await tvixStore(['cat', ...flags, `${path}/small`])).toMatchObject({ stdout: 'small of next' });
    expect(asked.filter(isNar)).toEqual([]);
    await daemon.stop();
  });

  test('gives no bytes of another root, and the right ones where the NAR is right', async () => {
    const urls = new Map<string, string>();
    for (const name of ['castore', 'nix', 'next']) {
      const { body } = await http(bridge.port, `/${paths[name]!.storePath.hashText}.narinfo`);
      urls.set(name, /URL: (nar\/\S+)/.exec(String(body))![1]!);
    }
    const another: Twist = (path, answer) => {
      if (!path.endsWith('.narinfo')) return answer;
      return {
        ...answer,
        body: Buffer.from(String(answer.body).replace(/URL: \S+/, `URL: ${urls.get('next')}`)),
      };
    };
    await mounted(await lyingCache(bridge, another), async (read) => {
      for (const name of ['castore', 'nix'])
        expect((await read(name, 'small')).stderr).toContain('Input/output error');
    });
    const withRightNar: Twist = (path, answer) =>
      isNar(path) ? http(bridge.port, `/${urls.get('nix')}`) : another(path, answer);
    await mounted(await lyingCache(bridge, withRightNar), async (read) => {
      expect(await read('nix', 'small')).toMatchObject({ status: 0, stdout: 'small of nix' });
    });
  });
});
