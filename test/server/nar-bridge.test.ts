import { Agent } from 'node:http';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import type { Node } from '../../src/castore/node.ts';
import { encodeBase32 } from '../../src/nix/base32.ts';
import { NarInfo } from '../../src/nix/narinfo/narinfo.ts';
import { parseRootNode, printRootNode } from '../../src/server/http/root-node.ts';
import { importNar } from '../../src/store/nar/import.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { undoEncodings } from '../../src/util/compression/content-encoding.ts';
import { zstdDecompress } from '../../src/util/compression/zstd.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startNarBridge } from '../helpers/daemon.ts';
import { describeFacts } from '../helpers/facts.ts';
import type { HttpOptions } from '../helpers/http.ts';
import { http } from '../helpers/http.ts';
import { narOf } from '../helpers/nar.ts';
import { all, localStore, sha256 } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree, symlink } from '../helpers/trees.ts';

const STORE = `${tempDir()}/store`;
const NOWHERE = Digest.of(new Uint8Array(32).fill(0xff));
const HASH = '0'.repeat(32);

const TREE = narOf(generateTree(100, 3));
const FILE = narOf(file('contents'));
const LINK = narOf(symlink('somewhere'));
let tree: PathInfo;
let plain: PathInfo;
let link: PathInfo;
let bridge: TestDaemon;

async function* whole(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

beforeAll(async () => {
  const store = localStore(STORE);
  tree = await importNar(store, whole(TREE), 'tree');
  plain = await importNar(store, whole(FILE), 'file');
  link = await importNar(store, whole(LINK), 'link');
  await store.close();
  bridge = await startNarBridge(`local://${STORE}`);
});
afterAll(() => bridge.stop('SIGKILL'));

const ask = (path: string, options?: HttpOptions) => http(bridge.port, path, options);
const get = (path: string, headers: Record<string, string> = {}) => ask(path, { headers });
const head = (path: string) => ask(path, { method: 'HEAD' });
const rootUrl = (node: Node, length: number | bigint, dialect = 'tvix') =>
  `/nar/${dialect}-castore/${printRootNode(node)}?narsize=${length}`;
const hashUrl = (nar: Uint8Array) => `/nar/${encodeBase32(sha256(nar))}.nar`;

describe('the description of the cache', () => {
  test('has the usual values', async () => {
    const { status, headers, body } = await get('/nix-cache-info');
    expect([status, headers['content-type']]).toEqual([200, 'text/x-nix-cache-info']);
    expect(body.toString()).toBe('StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 39\n');
  });

  test('has the priority that it is given', async () => {
    const other = await startNarBridge('memory://', undefined, ['--priority', '7', '--cache', tempDir()]);
    const { body } = await http(other.port, '/nix-cache-info');
    await other.stop();
    expect(body.toString()).toContain('Priority: 7\n');
  });

  test('comes with health and metrics', async () => {
    expect((await get('/health')).status).toBe(200);
    await get(hashUrl(TREE));
    // Counted when it is done, which a client may know a little sooner.
    const metrics = () => get('/metrics').then(({ body }) => body.toString());
    await expect.poll(metrics).toMatch(new RegExp(`sent_bytes_total\\{route="nar"\\} ${TREE.length}`));
    expect(await metrics()).toMatch(/http_requests_total\{route="nar",method="GET",status="200"\} [1-9]/);
  });
});

describe('a narinfo', () => {
  test('tells what the store knows, and where the NAR is', async () => {
    const { status, headers, body } = await get(`/${tree.storePath.hashText}.narinfo`);
    expect([status, headers['content-type']]).toEqual([200, 'text/x-nix-narinfo']);
    const info = NarInfo.parse(body);
    expect([`${info.storePath}`, info.narSize, info.compression]).toEqual([
      `${tree.storePath}`,
      tree.narSize,
      'none',
    ]);
    expect((await get(`/${info.url}`)).body.equals(TREE)).toBe(true);
  });

  test.each(['zstd', 'br', 'gzip'])('is compressed by %s where that is asked for', async (how) => {
    const path = `/${tree.storePath.hashText}.narinfo`;
    const packed = await get(path, { 'accept-encoding': how });
    expect([packed.headers['content-encoding'], packed.headers.vary]).toEqual([how, 'accept-encoding']);
    const text = Buffer.concat(await all(undoEncodings([how], Readable.from([packed.body]))));
    expect(text.equals((await get(path)).body)).toBe(true);
  });

  test('is there for HEAD, without a body', async () => {
    const path = `/${tree.storePath.hashText}.narinfo`;
    const [whole, only] = [await get(path), await head(path)];
    expect([only.status, only.body.length]).toEqual([200, 0]);
    expect(only.headers['content-length']).toBe(String(whole.body.length));
  });
});

describe('the NAR', () => {
  const VARIANTS: [string, () => string, Buffer][] = [
    ['of a tree by its root', () => rootUrl(tree.node, tree.narSize), TREE],
    ['of a tree in the other dialect', () => rootUrl(tree.node, tree.narSize, 'snix'), TREE],
    ['of a file by its root', () => rootUrl(plain.node, plain.narSize), FILE],
    ['of a link by its root', () => rootUrl(link.node, link.narSize), LINK],
    ['of a tree by its hash', () => hashUrl(TREE), TREE],
    ['of a link by its hash', () => hashUrl(LINK), LINK],
    ['as nix-serve names it', () => `/nar/${tree.storePath.hashText}-${hashUrl(TREE).slice(5)}`, TREE],
    ['as harmonia names it', () => `${hashUrl(TREE)}?hash=${tree.storePath.hashText}`, TREE],
  ];
  test.each(VARIANTS)('%s is what was put, as a whole and in part', async (_name, url, nar) => {
    const all = await get(url());
    expect(all.status).toBe(200);
    expect(all.headers).toMatchObject({
      'content-type': 'application/x-nix-nar',
      'content-length': String(nar.length),
      'cache-control': 'max-age=31536000, immutable',
      'accept-ranges': 'bytes',
    });
    expect(all.body.equals(nar)).toBe(true);
    const only = await head(url());
    expect([only.status, only.headers['content-length'], only.body.length]).toEqual([
      200,
      String(nar.length),
      0,
    ]);
    const middle = Math.floor(nar.length / 2);
    const last = nar.length - 1;
    for (const [range, start, end] of [
      ['bytes=0-', 0, nar.length],
      ['bytes=0-0', 0, 1],
      [`bytes=${middle}-`, middle, nar.length],
      [`bytes=${middle}-${middle + 9}`, middle, middle + 10],
      [`bytes=${last}-`, last, nar.length],
      ['bytes=-5', nar.length - 5, nar.length],
      [`bytes=-${nar.length * 2}`, 0, nar.length],
      [`bytes=8-${nar.length * 2}`, 8, nar.length],
    ] as const) {
      const part = await get(url(), { range });
      expect([part.status, part.headers['content-range']], range).toEqual([
        206,
        `bytes ${start}-${end - 1}/${nar.length}`,
      ]);
      expect(part.body.equals(nar.subarray(start, end)), range).toBe(true);
    }
    for (const range of [`bytes=${nar.length}-`, 'bytes=-0', `bytes=${nar.length + 7}-${nar.length + 9}`]) {
      const none = await get(url(), { range });
      expect([none.status, none.headers['content-range']], range).toEqual([416, `bytes */${nar.length}`]);
    }
    for (const range of ['bytes=1-0', 'bytes=0-1,4-5', 'bytes=-', 'bytes', 'lines=1-2', 'bytes=a-b']) {
      expect((await get(url(), { range })).body.length, range).toBe(nar.length);
    }
    expect((await get(url(), { range: 'bytes=0-0', 'if-range': '"something"' })).status).toBe(200);
  });

  test('of a length that is not true is refused, or cut', async () => {
    expect((await get(rootUrl(link.node, 8n))).status).toBe(400);
    expect((await get(rootUrl(tree.node, tree.narSize + 8n), { range: 'bytes=8-' })).status).toBe(400);
    expect((await get(rootUrl(tree.node, tree.narSize - 8n), { range: 'bytes=8-' })).status).toBe(400);
    await expect(get(rootUrl(tree.node, tree.narSize + 8n))).rejects.toThrow();
    await expect(get(rootUrl(tree.node, tree.narSize - 8n))).rejects.toThrow();
  });

  test('is compressed for who asks for it, when that is wanted', async () => {
    const other = await startNarBridge(`local://${STORE}`, undefined, ['--compress', 'zstd']);
    const from = (headers: Record<string, string>) => http(other.port, hashUrl(TREE), { headers });
    const packed = await from({ 'accept-encoding': 'gzip, zstd;q=0.5' });
    expect(packed.headers).toMatchObject({ 'content-encoding': 'zstd', vary: 'accept-encoding' });
    expect(packed.headers['accept-ranges']).toBeUndefined();
    expect(packed.body.length).toBeLessThan(TREE.length);
    expect(TREE.equals(zstdDecompress(packed.body, TREE.length))).toBe(true);
    for (const headers of [
      {},
      { 'accept-encoding': 'zstd;q=0' },
      { 'accept-encoding': 'zstd', range: 'bytes=0-' },
    ]) {
      const plain = await from(headers);
      expect(plain.headers['content-encoding']).toBeUndefined();
      expect(plain.body.equals(TREE)).toBe(true);
    }
    await other.stop();
    expect(
      (await get(hashUrl(TREE), { 'accept-encoding': 'zstd' })).headers['content-encoding'],
    ).toBeUndefined();
  });
});

describe('the status', () => {
  const node = (kind: 'directory' | 'file'): Node =>
    kind === 'file'
      ? { kind, digest: NOWHERE, size: 1n, executable: false }
      : { kind, digest: NOWHERE, size: 1n };
  const long = Buffer.alloc(4097).toString('base64url');
  const named = Buffer.from('1a040a026e6d', 'hex').toString('base64url');
  const CASES: [string, number, () => string][] = [
    ['of nothing', 404, () => '/nothing'],
    ['of an invalid path', 404, () => '/%%%/../..//'],
    ['of a narinfo that is not there', 404, () => `/${HASH}.narinfo`],
    ['of a narinfo by a bad name', 404, () => '/foo.narinfo'],
    ['of a narinfo by a hash with other letters', 404, () => `/${'e'.repeat(32)}.narinfo`],
    ['of a listing that is not there', 404, () => `/${HASH}.ls`],
    ['of a NAR that is not there', 404, () => `/nar/${'0'.repeat(52)}.nar`],
    ['of a compressed NAR that is not there', 404, () => `/nar/${'0'.repeat(52)}.nar.xz`],
    ['of a NAR that is there, but not compressed', 404, () => `${hashUrl(TREE)}.xz`],
    ['of a NAR of another path', 404, () => `/nar/${'0'.repeat(52)}.nar?hash=${tree.storePath.hashText}`],
    [
      'of a NAR of another path, as nix-serve names it',
      404,
      () => `/nar/${tree.storePath.hashText}-${'0'.repeat(52)}.nar`,
    ],
    ['of a NAR of a path that is not there', 404, () => `/nar/${HASH}.nar`],
    ['of a NAR by the hash of its path', 200, () => `/nar/${tree.storePath.hashText}.nar`],
    ['of a root without a length', 400, () => rootUrl(tree.node, 0n).replace(/\?.*/, '')],
    ['of a root with a length that is none', 400, () => rootUrl(tree.node, 0n).replace(/0$/, 'x')],
    ['of a root that is no base-64', 404, () => '/nar/tvix-castore/a+b?narsize=1'],
    ['of a root with padding', 404, () => '/nar/tvix-castore/YQ==?narsize=1'],
    ['of a root that is too long', 400, () => `/nar/tvix-castore/${long}?narsize=1`],
    ['of a root that is nothing', 404, () => '/nar/snix-castore/AAAA?narsize=1'],
    ['of a root with a name', 404, () => `/nar/snix-castore/${named}?narsize=1`],
    ['of a directory that is not there', 404, () => rootUrl(node('directory'), 96n)],
    ['of a file that is not there', 404, () => rootUrl(node('file'), 120n)],
  ];
  test.each(CASES)('%s is %i', async (_name, expected, path) => {
    const { status, body } = await get(path());
    expect(status).toBe(expected);
    expect(body.length).toBeGreaterThan(0);
  });

  test('of a method that is not for it is 405, and says which are', async () => {
    for (const [method, path, allow] of [
      ['POST', '/', 'GET, HEAD'],
      ['PUT', '/nix-cache-info', 'GET, HEAD'],
      ['DELETE', `/${HASH}.narinfo`, 'GET, HEAD, PUT'],
      ['PATCH', hashUrl(TREE), 'GET, HEAD, PUT'],
    ] as const) {
      const { status, headers } = await ask(path, { method });
      expect([status, headers.allow]).toEqual([405, allow]);
    }
  });
});

describe('a listing', () => {
  test('tells where the contents are in the NAR', async () => {
    const store = localStore(STORE);
    const nar = narOf(directory({ a: directory({ b: file('in b', true) }), l: symlink('a/b') }));
    const info = await importNar(store, whole(nar), 'listed');
    await store.close();
    const { headers, body } = await get(`/${info.storePath.hashText}.ls`);
    expect(headers['content-type']).toBe('application/json');
    const { root } = JSON.parse(body.toString());
    const { size, narOffset } = root.entries.a.entries.b;
    expect(nar.toString('latin1', narOffset, narOffset + size)).toBe('in b');
    expect(root.entries.l).toEqual({ type: 'symlink', target: 'a/b' });
  });
});

test('thousands of narinfos come over a few connections', async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 25 });
  const path = `/${tree.storePath.hashText}.narinfo`;
  const asked = Array.from({ length: 4000 }, (_, i) =>
    ask(i % 2 ? path : `/${HASH.slice(5)}${String(i).padStart(5, '0')}.narinfo`, { agent }),
  );
  const statuses = (await Promise.all(asked)).map(({ status }) => status);
  agent.destroy();
  expect(statuses.filter((status) => status === 200)).toHaveLength(2000);
  expect(statuses.filter((status) => status === 404)).toHaveLength(2000);
});

describeFacts('nar_bridge', (facts) => {
  test.each(facts.filter(({ input }) => 'stored' in input))('$name', async ({ input, expected }) => {
    const info = NarInfo.parse(Buffer.from(expected.body));
    const node = parseRootNode(/castore\/([^?]*)/.exec(info.url)![1]!);
    const store = localStore(STORE);
    await store.pathInfos.put({ ...info, node } as PathInfo);
    await store.close();
    const { status, headers, body } = await get(input.GET);
    expect([status, headers['content-type']]).toEqual([expected.status, expected.content_type]);
    // One form for both: the URL of the newer, which tells the length of the file besides.
    const wanted = info.with({ url: info.url.replace('tvix', 'snix'), fileSize: info.narSize });
    expect(body.toString()).toBe(wanted.toString());
  });
});
