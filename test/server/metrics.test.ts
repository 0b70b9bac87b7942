import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { ROOT, run, tvixStore } from '../helpers/cli.ts';
import { startDaemon, startNarBridge, startNixDaemon } from '../helpers/daemon.ts';
import { http } from '../helpers/http.ts';
import { metricsAddress, scrape, valueIn } from '../helpers/metrics.ts';
import { DRIVERS, mount } from '../helpers/mount.ts';
import { describeWith } from '../helpers/other-clients.ts';
import { randomBytes } from '../helpers/random.ts';
import { ABSENT, RawNixClient } from '../helpers/raw-nix-client.ts';
import { chunkFiles, rot } from '../helpers/rot.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';
import { TestVirtiofs } from '../helpers/virtiofs.ts';

const FILES = 12;
const CONTENTS = 'ten bytes\n';
const WATCH = ['--metrics-listen', '127.0.0.1:0'];
const store = `local://${join(tempDir(), 'store')}`;
let name: string;
let large: string;

beforeAll(async () => {
  const tree = join(tempDir(), 'tree');
  const files = Array.from({ length: FILES }, (_, i) => [`f${i}`, file(`${i % 10}${CONTENTS.slice(1)}`)]);
  writeTree(tree, directory(Object.fromEntries(files)));
  const other = join(tempDir(), 'large');
  writeTree(other, file(randomBytes(300_000, 3)));
  const imported = await tvixStore(['import', '--store', store, tree, other]);
  [name, large] = imported.stdout
    .trim()
    .split('\n')
    .map((path) => path.slice('/nix/store/'.length)) as [string, string];
});

const filesIn = (dir: string) => Array.from({ length: FILES }, (_, i) => join(dir, name, `f${i}`));
const readAll = async (dir: string) =>
  expect((await run('cat', filesIn(dir))).stdout).toHaveLength(FILES * CONTENTS.length);
/** Numbers of a metric, by the value of its only label. */
const byLabel = (told: string, metric: string, label: string) => (value: string) =>
  valueIn(told, `${metric}{${label}="${value}"}`);

describe.each(DRIVERS)('a mount by the driver %s', (driver) => {
  test('counts what the kernel asks, and how long that takes', async () => {
    const mounted = await mount(['--store', store, '--driver', driver, ...WATCH]);
    const at = metricsAddress(mounted.log());
    await readAll(mounted.dir);
    const told = await scrape(at);
    const reads = 'tvix_store_fuse_request_seconds';
    expect(valueIn(told, `${reads}_count{operation="read"}`)).toBe(FILES);
    // The buckets add up, and each includes those below.
    const buckets = [
      ...told.matchAll(/^tvix_store_fuse_request_seconds_bucket\{operation="read",le="([^"]+)"\} (\d+)$/gm),
    ];
    const counts = buckets.map(([, , count]) => Number(count));
    expect(buckets.at(-1)?.slice(1)).toEqual(['+Inf', String(FILES)]);
    expect(counts).toEqual(counts.toSorted((a, b) => a - b));
    expect(valueIn(told, `${reads}_sum{operation="read"}`)).toBeGreaterThan(0);
    expect(valueIn(told, 'tvix_store_fuse_read_bytes_total')).toBe(FILES * CONTENTS.length);
    expect(valueIn(told, 'tvix_store_fuse_files_read_total')).toBe(FILES);
    expect(valueIn(told, 'tvix_store_fuse_paths_entered_total')).toBe(1);
    expect(valueIn(told, 'tvix_store_fuse_misses_total')).toBe(0);
    expect(valueIn(told, 'tvix_store_objects{kind="path"}')).toBe(2);
    await mounted.stop();
  });

  test('counts what it fetches, what waits meanwhile, and what cannot be had', async () => {
    const daemon = await startDaemon(store, join(tempDir(), 'socket'));
    const cache = ['--cache', join(tempDir(), 'cache'), '--timeout', '2s'];
    const mounted = await mount(['--store', daemon.url, '--driver', driver, ...cache, ...WATCH]);
    const at = metricsAddress(mounted.log());
    await readAll(mounted.dir);
    const told = await scrape(at);
    const fetched = valueIn(told, 'tvix_store_fetched_bytes_total')!;
    const missed = valueIn(told, 'tvix_store_fuse_misses_total')!;
    expect(fetched).toBeGreaterThanOrEqual(10 * CONTENTS.length);
    expect(missed).toBeGreaterThanOrEqual(3);
    expect(valueIn(told, 'tvix_store_fetch_seconds_count{kind="pathInfo"}')).toBe(1);
    expect(valueIn(told, 'tvix_store_fuse_requests_waiting')).toBe(0);

    daemon.child.kill('SIGSTOP');
    const reading = run('cat', [join(mounted.dir, large)]);
    await expect
      .poll(async () => valueIn(await scrape(at), 'tvix_store_fuse_oldest_wait_seconds'))
      .toBeGreaterThan(0);
    expect(valueIn(await scrape(at), 'tvix_store_fuse_requests_waiting')).toBe(1);
    expect((await reading).stderr).toContain('Input/output error');
    const after = await scrape(at);
    const errors = byLabel(after, 'tvix_store_fuse_io_errors_total', 'cause');
    expect(errors('fetch')).toBeGreaterThanOrEqual(1);
    expect(['local', 'fault', 'unsatisfied', 'abandoned'].map(errors)).toEqual([0, 0, 0, 0]);
    expect(after).toMatch(
      /^tvix_store_fetch_failures_total\{code="(UNAVAILABLE|DEADLINE_EXCEEDED)"\} [1-9]/m,
    );
    expect(valueIn(after, 'tvix_store_fuse_requests_waiting')).toBe(0);
    expect(valueIn(after, 'tvix_store_fuse_oldest_wait_seconds')).toBe(0);
    daemon.child.kill('SIGCONT');
    await mounted.stop();
  });
});

test('a mount tells of its cache: how large it is and may be, and what was evicted', async () => {
  const own = `local://${join(tempDir(), 'store')}`;
  const tree = join(tempDir(), 'tree');
  const names = Array.from({ length: 12 }, (_, i) => `f${i}`);
  writeTree(
    tree,
    directory(Object.fromEntries(names.map((name) => [name, file(randomBytes(300_000, name))]))),
  );
  const path = (await tvixStore(['import', '--store', own, tree])).stdout.trim();
  const daemon = await startDaemon(own, join(tempDir(), 'socket'));
  const cache = ['--cache', join(tempDir(), 'cache'), '--cache-size', '1M'];
  const mounted = await mount(['--store', daemon.url, ...cache, ...WATCH]);
  const at = metricsAddress(mounted.log());
  for (const name of names)
    expect(await run('cat', [join(mounted.dir, path.slice('/nix/store/'.length), name)])).toMatchObject({
      status: 0,
    });
  await expect
    .poll(async () => valueIn(await scrape(at), 'tvix_store_cache_evicted_bytes_total'), { timeout: 20_000 })
    .toBeGreaterThan(300_000);
  const told = await scrape(at);
  expect(valueIn(told, 'tvix_store_cache_limit_bytes')).toBe(1 << 20);
  expect(valueIn(told, 'tvix_store_cache_evictions_total')).toBeGreaterThanOrEqual(1);
  expect(valueIn(told, 'tvix_store_cache_size_bytes')).toBeLessThan(12 * 300_000);
  await mounted.stop();
});

test('a daemon counts calls by method, their failures, bytes and connections', async () => {
  const daemon = await startDaemon(store, join(tempDir(), 'socket'), WATCH);
  const at = metricsAddress(daemon.log());
  for (let i = 0; i < 3; i++)
    expect(await tvixStore(['path-info', '--store', daemon.url, name])).toMatchObject({ status: 0 });
  const absent = await tvixStore(['path-info', '--store', daemon.url, ABSENT]);
  expect(absent.status).toBe(1);
  await expect
    .poll(async () => valueIn(await scrape(at), 'tvix_store_grpc_connections{state="used"}'))
    .toBe(0);
  const told = await scrape(at);
  const calls = byLabel(told, 'tvix_store_grpc_request_seconds_count', 'method');
  expect(calls('PathInfoService/Get')).toBeGreaterThanOrEqual(4);
  expect(valueIn(told, 'tvix_store_grpc_failures_total{code="NOT_FOUND"}')).toBeGreaterThanOrEqual(1);
  expect(valueIn(told, 'tvix_store_grpc_sent_bytes_total')).toBeGreaterThan(300);
  expect(valueIn(told, 'tvix_store_grpc_received_bytes_total')).toBeGreaterThan(60);
  expect(valueIn(told, 'tvix_store_grpc_connections_total')).toBe(4);
  expect(valueIn(told, 'tvix_store_grpc_requests_running')).toBe(0);
});

test('a daemon of Nix counts requests by operation, and connections by state', async () => {
  const daemon = await startNixDaemon(store, join(tempDir(), 'socket'), WATCH);
  const at = metricsAddress(daemon.log());
  const [silent, client] = [new RawNixClient(daemon.at), new RawNixClient(daemon.at)];
  await silent.greet();
  await client.greet();
  for (let i = 0; i < 5; i++) await client.works();
  client.to.number(99);
  client.send();
  await client.refusal();
  const told = await scrape(at);
  const requests = byLabel(told, 'tvix_store_worker_request_seconds_count', 'operation');
  expect(requests('IsValidPath')).toBe(5);
  await expect
    .poll(async () => valueIn(await scrape(at), 'tvix_store_worker_failures_total{code="UNIMPLEMENTED"}'))
    .toBe(1);
  expect(valueIn(told, 'tvix_store_worker_connections{state="silent"}')).toBe(1);
  expect(valueIn(told, 'tvix_store_worker_connections_total')).toBe(2);
  silent.socket.destroy();
});

test('a binary cache tells the same at its own listener and at one for those who watch', async () => {
  const bridge = await startNarBridge(store, '127.0.0.1:0', WATCH);
  const at = metricsAddress(bridge.log());
  for (let i = 0; i < 4; i++) expect((await http(bridge.port, '/nix-cache-info')).status).toBe(200);
  const requests = 'tvix_store_http_requests_total{route="nix-cache-info",method="GET",status="200"}';
  const seconds = 'tvix_store_http_request_seconds_count{route="nix-cache-info",method="GET"}';
  for (const told of [await scrape(at), await scrape(bridge.at)])
    expect([requests, seconds].map((name) => valueIn(told, name))).toEqual([4, 4]);
});

test('what is watched tells of the last collection, and of damage that it finds', async () => {
  const own = join(tempDir(), 'store');
  const daemon = await startDaemon(`local://${own}`, join(tempDir(), 'socket'), WATCH);
  const at = metricsAddress(daemon.log());
  const content = join(tempDir(), 'content');
  writeTree(content, file(randomBytes(200_000, 5)));
  const put = await tvixStore(['import', '--store', daemon.url, content]);
  expect(valueIn(await scrape(at), 'tvix_store_gc_last_finished_seconds')).toBe(0);
  expect((await tvixStore(['gc', '--store', `local://${own}`])).status).toBe(0);
  const told = await scrape(at);
  expect(valueIn(told, 'tvix_store_gc_last_finished_seconds')).toBeGreaterThan(1.7e9);
  expect(valueIn(told, 'tvix_store_gc_last_paths')).toBe(0);
  expect(valueIn(told, 'tvix_store_rotten_chunks_total')).toBe(0);
  for (const path of chunkFiles(own)) rot(path);
  expect((await tvixStore(['cat', '--store', daemon.url, put.stdout.trim()])).status).toBe(1);
  expect(valueIn(await scrape(at), 'tvix_store_rotten_chunks_total')).toBeGreaterThanOrEqual(1);
});

test('who watches listens elsewhere, or is refused before anything is served', async () => {
  const socket = join(tempDir(), 'metrics');
  const daemon = await startDaemon(store, join(tempDir(), 'socket'), ['--metrics-listen', socket]);
  expect(await scrape(socket)).toContain('nodejs_eventloop_lag_seconds');
  expect((await http(0, '/', { socketPath: socket })).status).toBe(404);
  const taken = ['--metrics-listen', socket];
  for (const command of [
    ['daemon', '-l', '127.0.0.1:0'],
    ['mount', tempDir()],
  ]) {
    const { status, stderr } = await tvixStore([...command, '--store', store, ...taken]);
    expect(status).toBe(1);
    expect(stderr).toContain(`cannot listen on ${socket}: something listens there already`);
  }
  await daemon.stop();
});

describeWith('promtool', 'promtool finds nothing wrong', (promtool) => {
  const check = async (at: string) => {
    const { status, stdout, stderr } = spawnSync(promtool, ['check', 'metrics'], {
      input: await scrape(at),
      encoding: 'utf8',
    });
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' });
  };

  test('with the alerts that the documentation has', () => {
    const page = readFileSync(join(ROOT, 'docs/operating.md'), 'utf8');
    const [, rules] = /^```yaml\n(groups:\n[^`]*)```$/m.exec(page)!;
    const path = join(tempDir(), 'rules.yaml');
    writeFileSync(path, rules!);
    const { status, stdout } = spawnSync(promtool, ['check', 'rules', path], { encoding: 'utf8' });
    expect([status, stdout]).toEqual([0, expect.stringContaining('SUCCESS: 6 rules found')]);
  });

  test('with the metrics of a daemon', async () => {
    const daemon = await startDaemon(store, join(tempDir(), 'socket'), WATCH);
    await tvixStore(['path-info', '--store', daemon.url, name]);
    await tvixStore(['path-info', '--store', daemon.url, ABSENT]);
    await check(metricsAddress(daemon.log()));
  });

  test('with those of a binary cache, at both of its listeners', async () => {
    const bridge = await startNarBridge(store, '127.0.0.1:0', WATCH);
    await http(bridge.port, '/nix-cache-info');
    await check(bridge.at);
    await check(metricsAddress(bridge.log()));
  });

  test("with those of a daemon of Nix's protocol", async () => {
    const daemon = await startNixDaemon(store, join(tempDir(), 'socket'), WATCH);
    const client = new RawNixClient(daemon.at);
    await client.greet();
    await client.works();
    await check(metricsAddress(daemon.log()));
    client.socket.destroy();
  });

  test('with those of a mount over a cache', async () => {
    const daemon = await startDaemon(store, join(tempDir(), 'socket'));
    const cache = ['--cache', join(tempDir(), 'cache'), '--cache-size', '1G'];
    const mounted = await mount(['--store', daemon.url, ...cache, ...WATCH]);
    await readAll(mounted.dir);
    await check(metricsAddress(mounted.log()));
    await mounted.stop();
  });

  test('with those of what serves a virtual machine, which tell of the guest', async () => {
    const server = await TestVirtiofs.start(['--store', store, ...WATCH]);
    const at = metricsAddress(server.log());
    expect(valueIn(await scrape(at), 'tvix_store_fuse_guests')).toBe(0);
    await server.mounted(async (guest) => {
      await guest.lookUp(name, 'f1');
      const told = await scrape(at);
      expect(valueIn(told, 'tvix_store_fuse_guests')).toBe(1);
      expect(valueIn(told, 'tvix_store_fuse_request_seconds_count{operation="lookup"}')).toBe(2);
    });
    await check(at);
    await server.stop();
  });
});
