import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { Agent, get as begin, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { encodeBase32 } from '../../src/nix/base32.ts';
import { importNar } from '../../src/store/nar/import.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startNarBridge } from '../helpers/daemon.ts';
import { http, raw } from '../helpers/http.ts';
import { narOf } from '../helpers/nar.ts';
import { randomBytes } from '../helpers/random.ts';
import { localStore, sha256 } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file } from '../helpers/trees.ts';

const STORE = join(tempDir(), 'store');
const LARGE = randomBytes(24 << 20, 'large');
const NAR = narOf(directory({ large: file(LARGE), small: file('small') }));
const HASH_URL = `/nar/${encodeBase32(sha256(NAR))}.nar`;
let info: PathInfo;
let bridge: TestDaemon;

beforeAll(async () => {
  const store = localStore(STORE);
  info = await importNar(store, [NAR] as never, 'large');
  await store.close();
  bridge = await startNarBridge(`local://${STORE}`);
});
afterAll(() => bridge.stop('SIGKILL'));

/** Waits until nothing but the question for it is being answered. */
async function untilIdle(): Promise<void> {
  for (;;) {
    const { body } = await http(bridge.port, '/metrics');
    if (body.toString().includes('tvix_store_http_requests_running 1\n')) return;
    await delay(20);
  }
}

describe('what is no request', () => {
  test.each([
    ['nonsense', 'nonsense\r\n\r\n', 400],
    ['TLS', Buffer.from('16030100a5010000a1', 'hex'), 400],
    [
      'a body of two lengths',
      'PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n',
      400,
    ],
    ['a body of a length that is none', 'PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n', 400],
    [
      'a body of a length and in chunks',
      'PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
      400,
    ],
    ['long headers', `GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431],
    ['a long path', `GET /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431],
    ['no host', 'GET / HTTP/1.1\r\n\r\n', 400],
  ])('is refused: %s', async (_name, bytes, status) => {
    expect(await raw(bridge.port, bytes)).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  });

  test('is refused in the middle of a body', async () => {
    const head = `PUT ${HASH_URL} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n`;
    expect(await raw(bridge.port, head, 'this is no length\r\n')).toMatch(/^HTTP\/1.1 400 |^$/);
    await untilIdle();
  });

  test('but an absolute address is one', async () => {
    const path = `http://anything/${info.storePath.hashText}.narinfo`;
    expect((await http(bridge.port, path)).status).toBe(200);
  });
});

describe('requests that do not wait for answers', () => {
  const ask = (path: string, more = '') => `GET ${path} HTTP/1.1\r\nHost: x\r\n${more}\r\n`;

  test('are answered in their order', async () => {
    const paths = Array.from({ length: 1000 }, (_, i) =>
      i % 3 ? `/${info.storePath.hashText}.narinfo` : `/${String(i).padStart(32, '0')}.narinfo`,
    );
    const all = paths.map((path) => ask(path)).join('') + ask('/', 'Connection: close\r\n');
    const answers = [...(await raw(bridge.port, all)).matchAll(/^HTTP\/1.1 (\d+) /gm)];
    expect(answers.map(([, status]) => status)).toEqual([
      ...paths.map((_, i) => (i % 3 ? '200' : '404')),
      '200',
    ]);
  });

  test('cost little until it is their turn', async () => {
    await http(bridge.port, HASH_URL);
    const before = bridge.rss();
    const socket = connect(bridge.port, '127.0.0.1');
    socket.pause();
    socket.write(ask(HASH_URL).repeat(300));
    await delay(1000);
    expect(bridge.rss() - before).toBeLessThan(60 << 20);
    socket.destroy();
    await untilIdle();
  });
});

describe('a client that goes away', () => {
  test('while it downloads leaves nothing behind', async () => {
    const answers = await Promise.all(
      Array.from({ length: 30 }, async () => {
        const asked = begin({ port: bridge.port, host: '127.0.0.1', path: HASH_URL });
        const [answer] = (await once(asked, 'response')) as [IncomingMessage];
        await once(answer, 'readable');
        return answer;
      }),
    );
    for (const answer of answers) answer.destroy();
    await untilIdle();
    expect((await http(bridge.port, HASH_URL)).body.equals(NAR)).toBe(true);
  });

  test('while it uploads leaves nothing that is known', async () => {
    const nar = narOf(file(randomBytes(1 << 20, 'half')));
    const path = `/nar/${encodeBase32(sha256(nar))}.nar`;
    const asked = request({
      port: bridge.port,
      host: '127.0.0.1',
      path,
      method: 'PUT',
      headers: { 'content-length': nar.length },
    });
    asked.on('error', () => {});
    asked.write(nar.subarray(0, nar.length / 2));
    await delay(50);
    asked.destroy();
    await untilIdle();
    expect((await http(bridge.port, path, { method: 'HEAD' })).status).toBe(404);
    expect((await http(bridge.port, path, { method: 'PUT', body: nar })).status).toBe(200);
  });

  test('can go on where it was', async () => {
    const asked = begin({ port: bridge.port, host: '127.0.0.1', path: HASH_URL });
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    const [part] = (await once(answer, 'data')) as [Buffer];
    answer.destroy();
    const rest = await http(bridge.port, HASH_URL, { headers: { range: `bytes=${part.length}-` } });
    expect(rest.status).toBe(206);
    expect(Buffer.concat([part, rest.body]).equals(NAR)).toBe(true);
  });
});

describe('a client that waits to be told to send', () => {
  const head = (path: string, length: number) =>
    `PUT ${path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: ${length}\r\nConnection: close\r\n\r\n`;

  test('is told so', async () => {
    const nar = narOf(file('expected'));
    const answer = await raw(bridge.port, head(`/nar/${encodeBase32(sha256(nar))}.nar`, nar.length), nar);
    expect(answer).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 OK\r\n/);
  });

  test('is told at once when there is no need', async () => {
    expect(await raw(bridge.port, head('/nar/none.nar', 1 << 30))).toMatch(/^HTTP\/1.1 404 /);
    expect(await raw(bridge.port, head(`${HASH_URL}.lzip`, 1 << 30))).toMatch(/^HTTP\/1.1 415 /);
  });
});

test('who sends a body that nobody wants reads why', async () => {
  const { status } = await http(bridge.port, `${HASH_URL}.lzip`, {
    method: 'PUT',
    body: Buffer.alloc(8 << 20),
  });
  expect(status).toBe(415);
});

test('what fails on the way cuts the connection', async () => {
  const dir = join(tempDir(), 'store');
  const store = localStore(dir);
  await importNar(store, [NAR] as never, 'damaged');
  const chunks = await store.blobs.chunks(Digest.hash(LARGE));
  for (const { digest } of chunks!.slice(5)) await store.local.env.chunks.remove(Buffer.from(digest.bytes));
  await store.close();
  const other = await startNarBridge(`local://${dir}`);
  await expect(http(other.port, HASH_URL)).rejects.toThrow('aborted');
  expect((await http(other.port, '/health')).status).toBe(200);
  await other.stop();
});

test('a download that is under way is finished when the server stops', async () => {
  const other = await startNarBridge(`local://${STORE}`);
  const asked = begin({ port: other.port, host: '127.0.0.1', path: HASH_URL });
  const [answer] = (await once(asked, 'response')) as [IncomingMessage];
  const [bytes, status] = await Promise.all([buffer(answer), other.stop()]);
  expect([status, bytes.equals(NAR)]).toEqual([0, true]);
});

test('a connection on which something was refused is as good as another', async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const upload = (path: string, body: Uint8Array) => http(bridge.port, path, { method: 'PUT', body, agent });
  const nothing = Buffer.alloc(1000, 'this is no NAR');
  for (const path of [
    HASH_URL,
    `${HASH_URL}.xz`,
    `${HASH_URL}.lzip`,
    `/${info.storePath.hashText}.narinfo`,
  ]) {
    expect((await upload(path, nothing)).status, path).toBeGreaterThanOrEqual(400);
  }
  // Longer than what is left over of a body may take.
  await delay(6000);
  expect(Object.values(agent.freeSockets).flat()).toHaveLength(1);
  agent.destroy();
});
