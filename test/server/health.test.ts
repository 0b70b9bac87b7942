import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { tvix } from '../../src/proto/messages.ts';
import { grpc } from '../../src/proto/standard.ts';
import { HealthCheck } from '../../src/server/health.ts';
import { Watching } from '../../src/server/metrics/listener.ts';
import { parseListenAddress } from '../../src/util/listen-address.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import { startDaemon, startNarBridge } from '../helpers/daemon.ts';
import { http } from '../helpers/http.ts';
import { metricsAddress, scrape, valueIn } from '../helpers/metrics.ts';
import { mount } from '../helpers/mount.ts';
import { RawClient } from '../helpers/raw-grpc.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

const GET_PATH_INFO = '/tvix.store.v1.PathInfoService/Get';
const WATCH = ['--metrics-listen', '127.0.0.1:0'];
const store = `local://${join(tempDir(), 'store')}`;
let name: string;

beforeAll(async () => {
  const tree = join(tempDir(), 'tree');
  writeTree(tree, directory({ one: file('one'), two: file('two') }));
  name = (await tvixStore(['import', '--store', store, tree])).stdout.trim().slice('/nix/store/'.length);
});

/** What `/health` says, with its status. */
async function healthAt(at: string): Promise<string> {
  const { status, body } = await http(Number(at.slice(at.lastIndexOf(':') + 1)), '/health');
  return `${status} ${body}`;
}

const IN_TIME = { timeout: 30_000 };

test('a mount is degraded while its store is away, serves what it has, and finds by itself that the store is back', async () => {
  const socket = join(tempDir(), 'socket');
  const daemon = await startDaemon(store, socket);
  const cache = ['--cache', join(tempDir(), 'cache'), '--timeout', '5s'];
  const mounted = await mount(['--store', daemon.url, ...cache, ...WATCH]);
  const at = metricsAddress(mounted.log());
  const path = (file: string) => join(mounted.dir, name, file);
  expect((await run('cat', [path('one')])).stdout).toBe('one');
  expect(await healthAt(at)).toBe('200 serving\n');
  await daemon.stop('SIGKILL');
  // It stands for all that the cache lacks.
  const absent = join(mounted.dir, '66120w4fki3x3ps0dgwr3m5sgd2ys5l4-absent');
  expect((await run('cat', [absent], { timeout: 60_000 })).stderr).toContain('Input/output error');
  expect(await healthAt(at)).toBe(`200 degraded: away: ${daemon.url}\n`);
  expect(valueIn(await scrape(at), `tvix_store_far_away{store="${daemon.url}"}`)).toBe(1);
  expect((await run('cat', [path('one')])).stdout).toBe('one');
  await startDaemon(store, socket);
  await expect.poll(() => healthAt(at), IN_TIME).toBe('200 serving\n');
  expect(await scrape(at)).not.toContain('tvix_store_far_away{');
  await mounted.stop();
});

test('a daemon tells by the health of gRPC whether the store behind it is there', async () => {
  const socket = join(tempDir(), 'socket');
  const behind = await startDaemon(store, socket);
  const daemon = await startDaemon(behind.url);
  const client = new RawClient(daemon.at);
  const { HealthCheckRequest, HealthCheckResponse } = grpc.health.v1;
  const statusOf = async (service: string) => {
    const request = HealthCheckRequest.encode({ service }).finish();
    const { messages } = await client.call('/grpc.health.v1.Health/Check', request);
    return HealthCheckResponse.ServingStatus[HealthCheckResponse.decode(messages[0]!).status];
  };
  expect([await statusOf(''), await statusOf('far-store')]).toEqual(['SERVING', 'SERVING']);
  await behind.stop('SIGKILL');
  const byOutputHash = new Uint8Array(20);
  const asked = () =>
    client.call(GET_PATH_INFO, tvix.store.v1.GetPathInfoRequest.encode({ byOutputHash }).finish());
  expect((await asked()).code).toBe('UNAVAILABLE');
  expect(await statusOf('far-store')).toBe('NOT_SERVING');
  expect(await statusOf('')).toBe('SERVING');
  await startDaemon(store, socket);
  expect((await asked()).code).toBe('NOT_FOUND');
  expect(await statusOf('far-store')).toBe('SERVING');
  client.close();
});

test('a binary cache says so at its own address, too', async () => {
  const bridge = await startNarBridge(store, '127.0.0.1:0', WATCH);
  expect(await healthAt(bridge.at)).toBe('200 serving\n');
  expect(await healthAt(metricsAddress(bridge.log()))).toBe('200 serving\n');
});

test('who does not serve yet, no longer, or with a thread that is stuck, says so by the status', async () => {
  const check = new HealthCheck();
  const watching = await Watching.begin(parseListenAddress('127.0.0.1:0'), check);
  onTestFinished(() => watching.stop());
  const [at] = watching.addresses;
  expect(await healthAt(at!)).toBe('503 starting\n');
  let isThere = false;
  check.begin({ responds: async () => isThere, probe: async () => {} });
  expect(await healthAt(at!)).toBe('503 not responding: a thread that serves says nothing\n');
  isThere = true;
  expect(await healthAt(at!)).toBe('200 serving\n');
  check.stop();
  expect(await healthAt(at!)).toBe('503 stopping\n');
});

describe('systemd', () => {
  /** Hears what it would hear. */
  async function listening(): Promise<{ socket: string; heard: () => string[] }> {
    const socket = join(tempDir(), 'notify');
    const script = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound', flush=True)
while True: print(s.recv(1000).decode(), flush=True)
`;
    const systemd = spawn('python3', ['-c', script, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => void systemd.kill('SIGKILL'));
    let heard = '';
    systemd.stdout.setEncoding('utf8').on('data', (part: string) => {
      heard += part;
    });
    await expect.poll(() => heard, IN_TIME).toBe('bound\n');
    return { socket, heard: () => heard.trim().split('\n') };
  }

  const alive = (heard: string[]) => heard.filter((line) => line === 'WATCHDOG=1').length;

  test('hears how a mount is, and that it lives', async () => {
    const { socket, heard } = await listening();
    const env = { ...process.env, NOTIFY_SOCKET: socket, WATCHDOG_USEC: '300000' };
    const mounted = await mount(['--store', store], undefined, { env });
    await expect.poll(() => alive(heard()), IN_TIME).toBeGreaterThan(3);
    expect(heard()).toContain('STATUS=serving');
    await mounted.stop();
  });

  test('is not told that another process lives', async () => {
    const { socket, heard } = await listening();
    const env = { ...process.env, NOTIFY_SOCKET: socket, WATCHDOG_USEC: '1000', WATCHDOG_PID: '1' };
    const daemon = await startDaemon(store, '127.0.0.1:0', [], { env });
    await expect.poll(heard, IN_TIME).toContain('STATUS=serving');
    await daemon.stop();
    await expect.poll(heard, IN_TIME).toContain('STOPPING=1');
    expect(alive(heard())).toBe(0);
  });
});
