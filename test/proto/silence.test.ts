import type { ServerHttp2Stream } from 'node:http2';
import { createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import type { Channel } from '../../src/proto/grpc/channel.ts';
import { dial } from '../../src/proto/grpc/dial.ts';
import { BLOB, PATH_INFO } from '../../src/proto/grpc/methods.ts';
import { tvix } from '../../src/proto/messages.ts';
import { AccessRule } from '../../src/server/access/rule.ts';
import { serveGrpc } from '../../src/server/grpc/server.ts';
import type { Store } from '../../src/store/services.ts';
import { pathInfo } from '../contract/path-infos.ts';
import { all, codeOf, memoryStore } from '../helpers/services.ts';
import { except } from '../helpers/services-that.ts';

/** Time passes as the test says; what goes over a connection does so in real time. */
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
});

const ends: (() => unknown)[] = [];
afterEach(async () => {
  vi.useRealTimers();
  for (const end of ends.splice(0)) await end();
});

/** Lets so many seconds pass, a few at a time, and what is sent meanwhile arrive. */
async function pass(seconds: number): Promise<void> {
  for (let i = 0; i < seconds / 5; i++) {
    vi.advanceTimersByTime(5000);
    await delay(10);
  }
}

async function dialed(port: number): Promise<Channel> {
  // Nothing is tried again.
  const channel = await dial(new URL(`grpc+http://127.0.0.1:${port}?protocol=tvix`), { awayMs: 0 });
  ends.unshift(() => channel.close());
  return channel;
}

async function serving(store: Store): Promise<Channel> {
  const server = await serveGrpc({
    store,
    listen: { kind: 'tcp', host: '127.0.0.1', port: 0 },
    ownership: {},
    access: new AccessRule({ anonymous: true }),
  });
  ends.push(() => server.stop());
  return dialed(Number(server.addresses[0]!.split(':')[1]));
}

/** A server that does with calls what it is told to, and only that. */
async function scripted(onStream: (stream: ServerHttp2Stream) => void): Promise<Channel> {
  const server = createServer();
  server.on('stream', onStream);
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  ends.push(() => server.close());
  return dialed((server.address() as AddressInfo).port);
}

test('a call that a server works on for minutes is answered, whatever its kind', async () => {
  const store = memoryStore();
  const contents = Buffer.from('contents');
  const done = Promise.withResolvers<void>();
  const slowly = async function* () {
    yield contents;
    await done.promise;
    yield contents;
  };
  const info = pathInfo('slow');
  const channel = await serving({
    ...store,
    pathInfos: except(store.pathInfos, { get: () => done.promise.then(() => info) }),
    blobs: except(store.blobs, {
      read: async () => slowly(),
      flush: () => done.promise,
    }),
  });
  const calls = Promise.all([
    channel.unary(PATH_INFO.get, { byOutputHash: info.storePath.hash }),
    all(channel.serverStream(BLOB.read, { digest: Digest.hash(contents).bytes })),
    channel.clientStream(BLOB.put, [{ data: contents }]),
  ]);
  calls.catch(() => {});
  await pass(150);
  done.resolve();
  const [got, read, put] = await calls;
  expect(got.narinfo).toBeDefined();
  expect(Buffer.concat(read.flatMap(({ data }) => data ?? [])).toString()).toBe('contentscontents');
  expect(put.digest).toBeDefined();
});

test('a server that gives no sign of life is given up after a minute', async () => {
  const streams: ServerHttp2Stream[] = [];
  const channel = await scripted((stream) => streams.push(stream));
  const codes = Promise.all([
    codeOf(channel.unary(BLOB.stat, { digest: Digest.hash(Buffer.from('x')).bytes })),
    codeOf(channel.clientStream(BLOB.put, [{ data: Buffer.from('x') }])),
  ]);
  await expect.poll(() => streams.length).toBeGreaterThanOrEqual(2);
  await pass(50);
  for (const stream of streams) stream.additionalHeaders({ ':status': 102 });
  await delay(50);
  let ended = false;
  void codes.then(() => (ended = true));
  await pass(50);
  expect(ended).toBe(false);
  await pass(20);
  expect(await codes).toEqual(['DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED']);
});

test('a message that takes minutes to be sent is sent, as long as a part of it goes each minute', async () => {
  let stream: ServerHttp2Stream | undefined;
  let received = 0;
  const channel = await scripted((begun) => {
    // What is read of it makes room for more.
    stream = begun;
    begun.pause();
  });
  const data = Buffer.alloc(800_000);
  const sent = channel.unary(BLOB.put, { data });
  sent.catch(() => {});
  await expect.poll(() => stream).toBeDefined();
  for (let i = 0; received < data.length && i < 100; i++) {
    await pass(20);
    for (let part = stream!.read(); part !== null; part = stream!.read()) received += part.length;
    await delay(5);
  }
  expect(received).toBeGreaterThanOrEqual(data.length);
  stream!.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  const answer = tvix.castore.v1.PutBlobResponse.encode({ digest: new Uint8Array(32) }).finish();
  const frame = Buffer.alloc(5 + answer.length);
  frame.writeUInt32BE(answer.length, 1);
  frame.set(answer, 5);
  stream!.on('wantTrailers', () => stream!.sendTrailers({ 'grpc-status': '0' }));
  stream!.end(frame);
  expect((await sent).digest).toHaveLength(32);
});

test('a source that gives nothing for minutes does not end the upload of what it gives', async () => {
  const channel = await serving(memoryStore());
  const { GrpcBlobService } = await import('../../src/castore/blob/grpc.ts');
  const blobs = new GrpcBlobService(channel);
  const more = Promise.withResolvers<void>();
  const waiting = Promise.withResolvers<void>();
  const contents = Buffer.alloc(3_000_000, 'some contents');
  const source = async function* () {
    yield contents.subarray(0, 2_000_000);
    waiting.resolve();
    await more.promise;
    yield contents.subarray(2_000_000);
  };
  const put = blobs.put(source());
  put.catch(() => {});
  await waiting.promise;
  await delay(100);
  await pass(200);
  more.resolve();
  expect((await put).digest.equals(Digest.hash(contents))).toBe(true);
});
