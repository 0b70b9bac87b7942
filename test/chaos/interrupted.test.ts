import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFailed, test } from 'vitest';
import { CLI, printedBy, tvixStore } from '../helpers/cli.ts';
import { startDaemon, startNarBridge } from '../helpers/daemon.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes, randomNumbers, SEED } from '../helpers/random.ts';
import { S3Server } from '../helpers/s3.ts';
import { checkLocalStore } from '../helpers/services.ts';
import { IN_MEMORY, tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

/** Bytes a second that the link carries, and bytes that it holds. */
const RATE = 1e6;
const HOLDS = 64 << 10;
/** A transfer is cut so long after its first bytes, in milliseconds. */
const SHORTEST_MS = 4000;
const LONGEST_MS = 9000;
const MAX_RUNS = 40;
/** What may be sent, as a part of the contents. */
const MOST = 1.2;

const random = randomNumbers(SEED);

/** One large file, some that are cut in a few chunks, and many small ones. */
function contents(seed: string): { tree: ReturnType<typeof directory>; size: number } {
  const sizes = [8_000_000, 900_000, 600_000, ...Array.from({ length: 80 }, (_, i) => 5000 + 400 * i)];
  const files = sizes.map((size, i) => [`f${i}`, file(randomBytes(size, `${seed} ${i}`))] as const);
  return { tree: directory(Object.fromEntries(files)), size: sizes.reduce((sum, size) => sum + size, 0) };
}

/** A link to a server at a port. */
async function link(port: number): Promise<TcpProxy> {
  const proxy = await TcpProxy.start(port);
  proxy.rate = RATE;
  proxy.holds = HOLDS;
  proxy.isOneLine = true;
  return proxy;
}

/** Runs a program until it ends well, and cuts it again and again: kills it, or breaks its connections if it bears that. */
async function cutUntilDone(
  proxy: TcpProxy,
  begin: () => ChildProcess,
  bearsBreaks: boolean,
): Promise<string> {
  const log: string[] = [];
  onTestFailed(() => console.error(`seed ${SEED}`, log));
  for (let i = 0; i < MAX_RUNS; i++) {
    const before = proxy.up;
    const moved = () => proxy.up + proxy.down;
    const begun = moved();
    const child = begin();
    const printed = printedBy(child);
    const ended = once(child, 'close');
    const over = new AbortController();
    const { signal } = over;
    const after = SHORTEST_MS + random() * (LONGEST_MS - SHORTEST_MS);
    // Not from its start: on a busy machine, that takes a good part of the time.
    const cut = (async () => {
      while (moved() === begun) await delay(20, undefined, { signal });
      await delay(after, undefined, { signal });
    })();
    const how = bearsBreaks && random() < 0.5 ? 'cut off' : 'killed';
    cut.then(
      () => (how === 'killed' ? child.kill('SIGKILL') : proxy.reset()),
      () => {},
    );
    const [status] = await ended;
    over.abort();
    log.push(`${status} ${how} ${proxy.up - before} up ${printed.stderr}`);
    if (status === 0) return printed.stdout;
  }
  throw new Error('it does not end');
}

const tvix = (args: readonly string[]) => () =>
  spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });

test.concurrent('an import that is cut again and again ends, and sends little twice', async () => {
  const dir = tempDir(IN_MEMORY);
  const { tree, size } = contents('import');
  mkdirSync(dir, { recursive: true });
  writeTree(join(dir, 'tree'), tree);
  const daemon = await startDaemon(`local://${dir}/store`);
  const proxy = await link(daemon.port);
  const path = await cutUntilDone(proxy, tvix(['import', '--store', proxy.url, join(dir, 'tree')]), true);
  expect(proxy.up / size).toBeLessThan(MOST);
  await daemon.stop();
  expect(await checkLocalStore(join(dir, 'store'))).toEqual([path.trim()]);
}, 120_000);

test.concurrent('a copy that is cut again and again ends, and sends little twice', async () => {
  const dir = tempDir(IN_MEMORY);
  const { tree, size } = contents('copy');
  mkdirSync(dir, { recursive: true });
  writeTree(join(dir, 'tree'), tree);
  const from = `local://${dir}/from`;
  const { stdout: path } = await tvixStore(['import', '--store', from, join(dir, 'tree')]);
  const daemon = await startDaemon(`local://${dir}/store`);
  const proxy = await link(daemon.port);
  await cutUntilDone(proxy, tvix(['copy', '--from', from, '--to', proxy.url, path.trim()]), true);
  expect(proxy.up / size).toBeLessThan(MOST);
  await daemon.stop();
  expect(await checkLocalStore(join(dir, 'store'))).toEqual([path.trim()]);
}, 120_000);

test.concurrent('a copy from afar that is cut again and again ends, and fetches little twice', async () => {
  const dir = tempDir(IN_MEMORY);
  const { tree, size } = contents('from afar');
  mkdirSync(dir, { recursive: true });
  writeTree(join(dir, 'tree'), tree);
  const from = `local://${dir}/from`;
  const { stdout: path } = await tvixStore(['import', '--store', from, join(dir, 'tree')]);
  const daemon = await startDaemon(from);
  const proxy = await link(daemon.port);
  const to = `local://${dir}/store`;
  await cutUntilDone(proxy, tvix(['copy', '--from', proxy.url, '--to', to, path.trim()]), true);
  expect(proxy.down / size).toBeLessThan(MOST);
  await daemon.stop();
  expect(await checkLocalStore(join(dir, 'store'))).toEqual([path.trim()]);
});

const bucket = S3Server.start();
const reason = bucket instanceof S3Server ? '' : ` (${bucket.missing})`;

test.skipIf(reason !== '').concurrent(
  `an import into a bucket that is cut again and again ends, and sends little twice${reason}`,
  async () => {
    const server = bucket as S3Server;
    const dir = tempDir(IN_MEMORY);
    const { tree, size } = contents('bucket');
    mkdirSync(dir, { recursive: true });
    writeTree(join(dir, 'tree'), tree);
    const proxy = await link(Number(new URL(server.endpoint).port));
    const store = server.address({ aws_endpoint: proxy.url.replace('grpc+', '') });
    const args = ['import', '--store', store, '--cache', join(dir, 'cache'), join(dir, 'tree')];
    const path = await cutUntilDone(proxy, tvix(args), true);
    expect(proxy.up / size).toBeLessThan(MOST);
    const directly = new URL(store);
    directly.searchParams.set('aws_endpoint', server.endpoint);
    const cache = ['--cache', join(dir, 'another')];
    const verified = await tvixStore(['verify', '--store', directly.href, ...cache, path.trim()]);
    expect(verified).toMatchObject({ status: 0 });
  },
  120_000,
);

describeNix('nix copy to a nar-bridge', () => {
  test.concurrent('that is cut again and again ends, and sends little twice', async () => {
    const nix = new NixUser();
    const root = join(nix.home, 'root');
    const sizes = Array.from({ length: 30 }, (_, i) => 60_000 + 9000 * i);
    const paths: string[] = [];
    for (const [i, size] of sizes.entries()) {
      writeTree(join(nix.home, `p${i}`), directory({ f: file(randomBytes(size, `nix ${i}`)) }));
      const added = await nix.run('nix-store', ['--store', root, '--add', join(nix.home, `p${i}`)]);
      paths.push(String(added).trim());
    }
    const dir = tempDir(IN_MEMORY);
    const bridge = await startNarBridge(`local://${dir}/store`);
    const proxy = await link(bridge.port);
    const to = `${proxy.url.replace('grpc+', '')}?compression=none`;
    const args = ['copy', '--store', root, '--to', to, ...paths];
    // Nix 2.8 begins an upload that was broken off at the end of it, and waits.
    await cutUntilDone(
      proxy,
      () => spawn('nix', args, { env: nix.env, stdio: ['ignore', 'pipe', 'pipe'] }),
      false,
    );
    expect(proxy.up / sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(MOST);
    await bridge.stop();
    expect((await checkLocalStore(join(dir, 'store'))).toSorted()).toEqual(paths.toSorted());
  }, 120_000);
});
