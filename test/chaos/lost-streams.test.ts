import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { BLOB, DIRECTORY, methodPath, PATH_INFO } from '../../src/proto/grpc/methods.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { RawClient } from '../helpers/raw-grpc.ts';
import { asked, READ } from '../helpers/scripted-blobs.ts';
import type { Reply, Script, ScriptedServer } from '../helpers/scripted-server.ts';
import { scriptedServer } from '../helpers/scripted-server.ts';
import { tempDir } from '../helpers/temp.ts';

const MIB = 1 << 20;
const contents = randomBytes(24 * MIB, 'large');
const digest = Digest.hash(contents).hex;
/** Messages of the whole file that come before something happens; there are some fifty. */
const BEFORE = 12;
/** So soon something is asked for again. Who only gave up what is idle would need five seconds. */
const SOON_MS = 4000;

const dir = tempDir();
const large = join(dir, 'large');
let daemon: TestDaemon;
let client: RawClient;
let path: string;

beforeAll(async () => {
  writeFileSync(large, contents);
  const store = `local://${dir}/store`;
  const { stdout } = await tvixStore(['import', '--store', store, large]);
  path = stdout.trim();
  daemon = await startDaemon(store);
  client = new RawClient(`127.0.0.1:${daemon.port}`);
});
afterAll(async () => {
  client.close();
  await daemon.stop();
});

/** Hands calls on to the daemon, as a proxy of gRPC does. The answers of the first call for the whole file are changed. */
async function relay(change: (messages: readonly Uint8Array[]) => Reply): Promise<ScriptedServer> {
  const script: Script = {};
  for (const method of [BLOB, DIRECTORY, PATH_INFO].flatMap((one) => Object.values(one))) {
    const key = `${method.service.split('.').at(-1)}/${method.name}`;
    script[key] = async (...requests) => {
      const { code, messages } = await client.call(methodPath('tvix', method), ...requests);
      return code === 'OK' ? messages : (code as Reply);
    };
  }
  const read = script[READ]!;
  let isFirst = true;
  script[READ] = async (request) => {
    const reply = await read(request!);
    if (!isFirst || asked(request!).hex !== digest) return reply;
    isFirst = false;
    return change(reply as Uint8Array[]);
  };
  const server = await scriptedServer(script);
  ends.push(() => server.close());
  return server;
}
const ends: (() => void)[] = [];
afterAll(() => {
  for (const end of ends) end();
});

test('a stream that something in between has lost costs a mount little', async () => {
  let lostAt = 0;
  const server = await relay(async function* (messages) {
    yield* messages.slice(0, BEFORE);
    lostAt = performance.now();
    await new Promise<never>(() => {});
  });
  const there = await mount(['--store', server.url, '--cache', join(tempDir(), 'cache')]);
  const reading = run('cmp', [large, join(there.dir, path.slice('/nix/store/'.length))]);
  await expect.poll(() => lostAt, { timeout: 20_000, interval: 10 }).toBeGreaterThan(0);
  const before = server.calls.get(READ)!;
  await expect.poll(() => server.calls.get(READ), { timeout: SOON_MS, interval: 10 }).toBeGreaterThan(before);
  expect(await reading).toMatchObject({ status: 0, stdout: '' });
  await there.stop();
});

test('one that only comes slowly for a while is not asked for again', async () => {
  const isSlow = Promise.withResolvers<void>();
  const server = await relay(async function* (messages) {
    yield* messages.slice(0, BEFORE);
    isSlow.resolve();
    yield* messages.slice(BEFORE);
  });
  const proxy = await TcpProxy.start(Number(new URL(server.url.replace('grpc+', '')).port));
  proxy.holds = 64 << 10;
  const there = await mount(['--store', proxy.url, '--cache', join(tempDir(), 'cache')]);
  const reading = run('cmp', [large, join(there.dir, path.slice('/nix/store/'.length))]);
  await isSlow.promise;
  const before = server.calls.get(READ)!;
  // A chunk takes longer than what is idle is waited for.
  proxy.rate = 40_000;
  await delay(9000);
  proxy.rate = Number.POSITIVE_INFINITY;
  expect(server.calls.get(READ)).toBe(before);
  expect(await reading).toMatchObject({ status: 0, stdout: '' });
  await there.stop();
});

test('one of two stores that only drips in the middle of a file is left for the other', async () => {
  const [first, second] = [await TcpProxy.start(daemon.port), await TcpProxy.start(daemon.port)];
  Object.assign(first, { rate: 8 * MIB, holds: 64 << 10 });
  const stores = ['--store', first.url, '--store', second.url];
  const there = await mount([...stores, '--cache', join(tempDir(), 'cache')]);
  const reading = run('cmp', [large, join(there.dir, path.slice('/nix/store/'.length))]);
  while (first.down < 6 * MIB) await delay(10);
  // From here on it would take hours.
  first.rate = 2000;
  expect(await reading).toMatchObject({ status: 0, stdout: '' });
  await there.stop();
});
