import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { dial } from '../../src/proto/grpc/dial.ts';
import { BLOB, DIRECTORY, PATH_INFO } from '../../src/proto/grpc/methods.ts';
import { tvix } from '../../src/proto/messages.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import type { Script } from '../helpers/scripted-server.ts';
import { scriptedServer } from '../helpers/scripted-server.ts';
import { all } from '../helpers/services.ts';

const DIGEST = { digest: Digest.hash(Buffer.from('x')).bytes };
const PATIENCE = { awayMs: 30_000 };
const MESSAGE = tvix.castore.v1.BlobChunk.encode({ data: Buffer.from('contents') }).finish();
const STORED = tvix.castore.v1.PutBlobResponse.encode(DIGEST).finish();

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** A channel to a server that does as it is told, through a proxy. */
async function place(script: Script) {
  const server = await scriptedServer(script);
  const proxy = await TcpProxy.start(Number(new URL(server.url.replace('grpc+', '')).port));
  const channel = await dial(new URL(`${proxy.url}?protocol=tvix`), PATIENCE);
  ends.push(
    () => channel.close(),
    () => proxy.close(),
    () => server.close(),
  );
  return { server, proxy, channel };
}

const took = async (work: Promise<unknown>) => {
  const begun = performance.now();
  await work;
  return performance.now() - begun;
};

test('a connection that was dropped without a word costs some seconds, whatever the call', async () => {
  const script = {
    'BlobService/Stat': () => [],
    'BlobService/Read': () => [MESSAGE],
    'DirectoryService/Get': () => [],
  };
  const { server, proxy, channel } = await place(script);
  const empty = Buffer.alloc(0);
  server.script['BlobService/Stat'] = () => [empty];
  server.script['PathInfoService/Get'] = () => [empty];
  const calls = [
    () => channel.unary(BLOB.stat, DIGEST),
    () => all(channel.serverStream(BLOB.read, DIGEST)),
    () => channel.wholeStream(DIRECTORY.get, DIGEST, 1 << 20),
    () => channel.unary(PATH_INFO.get, {}),
  ];
  await calls[0]!();
  for (const call of calls) {
    proxy.forget();
    const connections = proxy.connections;
    expect(await took(call())).toBeLessThan(10_000);
    expect(proxy.connections - connections).toBe(1);
  }
});

test('a network that lets nothing through is tried until it does, and then there is no wait', async () => {
  const { server, proxy, channel } = await place({});
  server.script['BlobService/Stat'] = () => [Buffer.alloc(0)];
  await channel.unary(BLOB.stat, DIGEST);
  proxy.forget();
  proxy.stall();
  const waiting = channel.unary(BLOB.stat, DIGEST);
  expect(await Promise.race([waiting, delay(7000, 'waiting')])).toBe('waiting');
  proxy.flow();
  expect(await took(waiting)).toBeLessThan(5000);
});

test('who asks again after somebody has given up finds a fresh connection sooner', async () => {
  const { server, proxy, channel } = await place({});
  server.script['BlobService/Stat'] = () => [Buffer.alloc(0)];
  await channel.unary(BLOB.stat, DIGEST);
  proxy.forget();
  proxy.stall();
  await expect(channel.unary(BLOB.stat, DIGEST, AbortSignal.timeout(3000))).rejects.toThrow();
  await delay(1000);
  proxy.flow();
  expect(await took(channel.unary(BLOB.stat, DIGEST))).toBeLessThan(1500);
});

test('a call that something in between has lost is made once more beside it, whatever the call', async () => {
  const { server, proxy, channel } = await place({});
  const never = new Promise<never>(() => {});
  const answers: Record<string, Buffer> = {
    'BlobService/Stat': Buffer.alloc(0),
    'BlobService/Read': Buffer.from(MESSAGE),
    'DirectoryService/Get': Buffer.alloc(0),
    'PathInfoService/Get': Buffer.alloc(0),
  };
  const calls = [
    () => channel.unary(BLOB.stat, DIGEST),
    () => all(channel.serverStream(BLOB.read, DIGEST)),
    () => channel.wholeStream(DIRECTORY.get, DIGEST, 1 << 20),
    () => channel.unary(PATH_INFO.get, {}),
  ];
  for (const [i, [name, answer]] of Object.entries(answers).entries()) {
    let isFirst = true;
    server.script[name] = () => {
      if (!isFirst) return [answer];
      isFirst = false;
      return never;
    };
    expect(await took(calls[i]!())).toBeLessThan(10_000);
    expect([server.calls.get(name), proxy.connections]).toEqual([2, i + 2]);
    // From then on there is no wait.
    await calls[i]!();
    expect([server.calls.get(name), proxy.connections]).toEqual([3, i + 2]);
  }
});

test('of many calls that a slow server has, one at a time is made once more', async () => {
  const { server, proxy, channel } = await place({});
  const slow = Promise.withResolvers<void>();
  server.script['BlobService/Stat'] = () => slow.promise.then(() => [Buffer.alloc(0)]);
  const waiting = Promise.all(Array.from({ length: 20 }, () => channel.unary(BLOB.stat, DIGEST)));
  // After two seconds, after six, and so on.
  await delay(9000);
  expect(server.calls.get('BlobService/Stat')).toBeGreaterThan(20);
  expect(server.calls.get('BlobService/Stat')).toBeLessThan(24);
  expect(proxy.connections).toBeLessThan(5);
  slow.resolve();
  await waiting;
});

test('what is only slow to come is not asked for again', async () => {
  const { server, proxy, channel } = await place({});
  const contents = tvix.castore.v1.BlobChunk.encode({ data: Buffer.alloc(50_000) }).finish();
  server.script['BlobService/Read'] = () => [contents];
  // Seven seconds for all of them.
  proxy.rate = 50_000;
  const reading = Array.from({ length: 7 }, () => channel.wholeStream(BLOB.read, DIGEST, 1 << 20));
  await Promise.all(reading);
  expect([server.calls.get('BlobService/Read'), proxy.connections]).toEqual([7, 1]);
});

test('an upload is not broken off because the peer has nothing to say meanwhile', async () => {
  const { server, proxy, channel } = await place({});
  server.script['BlobService/Put'] = () => [STORED];
  // What the peer gets through comes to it slowly.
  proxy.rate = 100_000;
  const parts = async function* () {
    for (let i = 0; i < 6; i++) yield { data: Buffer.alloc(100_000, i) };
  };
  await channel.clientStream(BLOB.put, parts());
  await channel.unary(BLOB.put, { data: Buffer.alloc(400_000) });
  expect([server.calls.get('BlobService/Put'), proxy.connections]).toEqual([2, 1]);
});
