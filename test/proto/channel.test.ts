import { writeFileSync } from 'node:fs';
import type { ServerHttp2Stream } from 'node:http2';
import { createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client, credentials, status } from '@grpc/grpc-js';
import { afterEach, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import type { Channel } from '../../src/proto/grpc/channel.ts';
import { dial } from '../../src/proto/grpc/dial.ts';
import { BLOB, DIRECTORY, methodPath, PATH_INFO } from '../../src/proto/grpc/methods.ts';
import { tvix } from '../../src/proto/messages.ts';
import { watchArrivals } from '../../src/util/async/arrivals.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import type { Script } from '../helpers/scripted-server.ts';
import { scriptedServer } from '../helpers/scripted-server.ts';
import { all, codeOf } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const DIGEST = { digest: Digest.hash(Buffer.from('x')).bytes };
const { BlobChunk } = tvix.castore.v1;

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

async function dialed(url: string): Promise<Channel> {
  const channel = await dial(new URL(url));
  ends.push(() => channel.close());
  return channel;
}

async function scripted(script: Script) {
  const server = await scriptedServer(script);
  ends.push(() => server.close());
  return server;
}

/** Every kind of call. */
const CALLS: Record<string, (channel: Channel, signal: AbortSignal) => Promise<unknown>> = {
  'with one answer': (channel, signal) => channel.unary(PATH_INFO.get, {}, signal),
  'with a stream of answers': (channel, signal) => all(channel.serverStream(BLOB.read, DIGEST, signal)),
  'with a short stream of answers': (channel, signal) =>
    channel.wholeStream(DIRECTORY.get, DIGEST, 1 << 20, signal),
  'with a stream of requests': (channel, signal) => channel.clientStream(BLOB.put, [], signal),
};

describe.each(Object.entries(CALLS))('a call %s', (_kind, call) => {
  test.each(['?protocol=tvix', ''])('is not made for a signal that has fired (%s)', async (parameter) => {
    const server = await scripted({});
    const channel = await dialed(`${server.url}${parameter}`);
    channel.detect('PathInfoService', (dialect) => channel.unaryAs(dialect, PATH_INFO.get, {}));
    const reason = new Error('no longer wanted');
    await expect(call(channel, AbortSignal.abort(reason))).rejects.toBe(reason);
    // One that is made arrives behind it.
    expect(await codeOf(channel.unary(BLOB.stat, DIGEST))).toBe('NOT_FOUND');
    expect([...server.calls]).toEqual([['BlobService/Stat', 1]]);
  });

  test('is left when the signal fires, while the dialect is being found out, or the answer does not come', async () => {
    const never = () => new Promise<never>(() => {});
    const server = await scripted({
      'PathInfoService/Get': never,
      'BlobService/Read': never,
      'BlobService/Put': never,
      'DirectoryService/Get': never,
    });
    const finding = await dialed(server.url);
    for (const { service } of [BLOB.read, DIRECTORY.get, PATH_INFO.get]) {
      finding.detect(service, (dialect) => finding.unaryAs(dialect, PATH_INFO.get, {}));
    }
    for (const channel of [finding, await dialed(`${server.url}?protocol=tvix`)]) {
      const reason = new Error('no longer wanted');
      const controller = new AbortController();
      const answer = call(channel, controller.signal);
      await Promise.race([answer, delay(200)]).catch(() => {});
      controller.abort(reason);
      await expect(answer).rejects.toBe(reason);
    }
  });
});

/** What rests on how grpc-js does things: a newer one that does them otherwise is noticed here. */
describe('of grpc-js, it is so that', () => {
  test('a stream whose reader stands still is decoded a few messages ahead, not sixteen', async () => {
    const message = BlobChunk.encode({ data: Buffer.alloc(1024) }).finish();
    const server = await scripted({ 'BlobService/Read': () => Array(100).fill(message) });
    const channel = await dialed(`${server.url}?protocol=tvix`);
    let decoded = 0;
    const response = {
      ...BLOB.read.response,
      decode: (bytes: Buffer) => {
        decoded++;
        return BLOB.read.response.decode(bytes);
      },
    };
    const messages = channel.serverStream({ ...BLOB.read, response }, DIGEST);
    await messages.next();
    await delay(200);
    expect(decoded).toBeGreaterThan(0);
    expect(decoded).toBeLessThanOrEqual(5);
    let rest = 0;
    for await (const _ of messages) rest++;
    expect(rest).toBe(99);
  });

  test('a connection that breaks under a call makes it UNAVAILABLE, so that it is repeated', async () => {
    let calls = 0;
    const server = createHttp2Server();
    let connection: Socket | undefined;
    server.on('connection', (socket: Socket) => {
      connection = socket;
    });
    server.on('stream', (stream) => {
      calls++;
      stream.on('error', () => {});
      // In the middle of the answer.
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      setImmediate(() => connection!.resetAndDestroy());
    });
    server.on('sessionError', () => {});
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ends.push(() => server.close());
    const { port } = server.address() as AddressInfo;
    const channel = await dialed(`grpc+http://127.0.0.1:${port}?protocol=tvix`);
    expect(await codeOf(channel.unaryAs('tvix', BLOB.stat, DIGEST))).toBe('UNAVAILABLE');
    const before = calls;
    expect(await codeOf(channel.unary(BLOB.stat, DIGEST))).toBe('UNAVAILABLE');
    expect(calls - before).toBeGreaterThan(1);
  });

  test('the stack of every call is recorded, unless we see to it', async () => {
    const server = await scripted({});
    const channel = await dialed(`${server.url}?protocol=tvix`);
    const client = new Client(server.url.slice('grpc+http://'.length), credentials.createInsecure());
    ends.push(() => client.close());
    const asIs = (bytes: Buffer) => bytes;
    const theirs = await new Promise<Error>((resolve) => {
      client.makeUnaryRequest(methodPath('tvix', BLOB.stat), asIs, asIs, Buffer.alloc(0), (error) =>
        resolve(error!),
      );
    });
    expect(theirs.stack).toMatch(/for call at\n\s+at /);
    const ours = await channel
      .unaryAs('tvix', BLOB.stat, DIGEST)
      .catch((error: Error) => error.cause as Error);
    expect((ours as Error).stack).toMatch(/for call at\nno stack trace available$/);
    expect(Error.stackTraceLimit).toBeGreaterThan(0);
  });
});

test('whoever watches hears of the bytes of a call before its message is whole, and of no other', async () => {
  const message = Buffer.alloc(200_000, 'x');
  const server = await scripted({
    'BlobService/Read': () => [BlobChunk.encode({ data: message }).finish()],
    'BlobService/Stat': () => [new Uint8Array()],
  });
  const proxy = await TcpProxy.start(Number(new URL(server.url.slice('grpc+'.length)).port));
  const channel = await dialed(`${proxy.url}?protocol=tvix`);
  const heard = new Map<string, number[]>();
  const watching = <T>(name: string, work: () => Promise<T>) => {
    const parts: number[] = [];
    heard.set(name, parts);
    return watchArrivals((bytes) => parts.push(bytes), work);
  };
  const calls = () => [
    watching('stat', () => channel.unary(BLOB.stat, DIGEST)),
    watching('whole', () => channel.wholeStream(BLOB.read, DIGEST, 1 << 20)),
    watching('stream', () => all(channel.serverStream(BLOB.read, DIGEST))),
  ];
  // The calls wait for one connection, and each begins in the events of that; the second time there is one.
  for (let i = 0; i < 2; i++) {
    proxy.rate = 1 << 20;
    await Promise.all(calls());
    const sums = [...heard.values()].map((parts) => parts.reduce((sum, bytes) => sum + bytes, 0));
    expect(sums[0]).toBeLessThan(100);
    for (const sum of sums.slice(1)) {
      expect(sum).toBeGreaterThanOrEqual(message.length);
      expect(sum).toBeLessThan(message.length + 100);
    }
    for (const name of ['whole', 'stream']) expect(heard.get(name)!.length).toBeGreaterThan(1);
  }
  proxy.close();
});

/** A server that answers so often by a status, or by breaking a call off, before it has an answer. */
async function failing(
  times: number,
  fail: keyof typeof status | ((stream: ServerHttp2Stream) => void),
  parameters = '',
) {
  let calls = 0;
  const server = createHttp2Server();
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    const isGood = calls++ >= times;
    if (!isGood && typeof fail === 'function') return fail(stream);
    const code = isGood ? 'NOT_FOUND' : (fail as keyof typeof status);
    const headers = { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': `${status[code]}` };
    stream.respond(headers, { endStream: true });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ends.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  const channel = await dialed(`grpc+http://127.0.0.1:${port}?protocol=tvix${parameters}`);
  return { channel, calls: () => calls };
}

describe('a read that fails', () => {
  test.each([
    'UNAVAILABLE',
    'DEADLINE_EXCEEDED',
    'RESOURCE_EXHAUSTED',
    'INTERNAL',
    'UNKNOWN',
    'ABORTED',
    'CANCELLED',
  ] as const)('by %s is repeated', async (code) => {
    const { channel, calls } = await failing(2, code);
    expect(await codeOf(channel.unary(BLOB.stat, DIGEST))).toBe('NOT_FOUND');
    expect(calls()).toBe(3);
  });

  test.each(['INVALID_ARGUMENT', 'UNAUTHENTICATED', 'PERMISSION_DENIED', 'DATA_LOSS'] as const)(
    'by %s fails at once',
    async (code) => {
      const { channel, calls } = await failing(2, code);
      expect(await codeOf(channel.unary(BLOB.stat, DIGEST))).toBe(code);
      expect(calls()).toBe(1);
    },
  );

  test('because its token is refused is repeated: it may be just being replaced', async () => {
    const file = join(tempDir(), 'token');
    writeFileSync(file, 'old or new');
    const { channel, calls } = await failing(2, 'UNAUTHENTICATED', `&token-file=${file}`);
    expect(await codeOf(channel.unary(BLOB.stat, DIGEST))).toBe('NOT_FOUND');
    expect(calls()).toBe(3);
  });

  test.each([0, 1, 2, 7, 8, 11])('because its stream is reset by %i is repeated', async (reset) => {
    const { channel, calls } = await failing(2, (stream) => stream.close(reset));
    expect(await codeOf(channel.unary(BLOB.stat, DIGEST))).toBe('NOT_FOUND');
    expect(calls()).toBe(3);
  });

  test.each([408, 429, 500, 502, 503, 520])('because a proxy says %i is repeated', async (http) => {
    const { channel, calls } = await failing(2, (stream) => {
      stream.respond({ ':status': http });
      stream.end('a page');
    });
    expect(await codeOf(channel.unary(BLOB.stat, DIGEST))).toBe('NOT_FOUND');
    expect(calls()).toBe(3);
  });
});

test('a put for which there is no room, or which fails, is not repeated', async () => {
  for (const code of ['RESOURCE_EXHAUSTED', 'INTERNAL'] as const) {
    const { channel, calls } = await failing(2, code);
    expect(await codeOf(channel.unary(BLOB.put, { data: Buffer.from('x') }))).toBe(code);
    expect(calls()).toBe(1);
  }
});
