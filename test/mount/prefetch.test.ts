import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import { writeProfiles } from '../../src/store/profile/file.ts';
import type { Step } from '../../src/store/profile/profile.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes, randomNumbers } from '../helpers/random.ts';
import { localStore } from '../helpers/services.ts';
import { putStorePath, storePathOf } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import type { Tree } from '../helpers/trees.ts';
import { directory, file } from '../helpers/trees.ts';
import { servedByPython } from '../helpers/web-server.ts';

const MIB = 1 << 20;
const FILES = 480;
const DIRECTORIES = 3;
const dir = tempDir();
const store = `local://${dir}/store`;
const bucketDir = join(dir, 'bucket');
const bucket = `objectstore+file://${bucketDir}`;
const APP = storePathOf('app');
const app = APP.absolute();
const contents = (i: number) => randomBytes(3000 + 17 * i, `file ${i}`);
const large = randomBytes(6 * MIB, 'large');
let daemon: TestDaemon;

/** Every second file is read, in an order that nobody guesses. */
const random = randomNumbers(5);
const READ = Array.from({ length: FILES / 2 }, (_, i) => ({ i: 2 * i, at: random() }))
  .sort((a, b) => a.at - b.at)
  .map(({ i }) => i);
const nameOf = (i: number) => `d${i % DIRECTORIES}/f${i}`;

beforeAll(async () => {
  const entries: Record<string, Tree> = { large: file(large) };
  for (let d = 0; d < DIRECTORIES; d++) {
    const inside = Array.from({ length: FILES / DIRECTORIES }, (_, n) => n * DIRECTORIES + d);
    entries[`d${d}`] = directory(Object.fromEntries(inside.map((i) => [`f${i}`, file(contents(i))])));
  }
  const into = localStore(join(dir, 'store'));
  await putStorePath(into, 'app', directory(entries));
  await into.close();
  expect(await tvixStore(['copy', '--from', store, '--to', bucket, '--all'])).toMatchObject({ status: 0 });
  daemon = await startDaemon(store);
});

const newCache = () => join(tempDir(), 'cache');

/** Reads files one after another, then a part of a large one, and prints the hash of all that. */
const PROGRAM = `
import hashlib, sys
read = hashlib.sha256()
for path in sys.argv[1:-1]:
    with open(path, 'rb') as file: read.update(file.read())
with open(sys.argv[-1], 'rb') as file:
    file.seek(4 << 20)
    read.update(file.read(100))
print(read.hexdigest())
`;
const HASH = createHash('sha256')
  .update(Buffer.concat([...READ.map(contents), large.subarray(4 * MIB, 4 * MIB + 100)]))
  .digest('hex');

/** Bytes of the small files that it reads. */
const NEEDED = READ.reduce((sum, i) => sum + contents(i).length, 0);

/** How often the far store was asked for something, and how often a reader had to wait. */
interface Asked {
  readonly sent: number;
  readonly waits: number;
}

/** Mounts, and runs the program; before that, `enter` may look into the store path. */
async function used(
  far: string,
  proxy: TcpProxy,
  cache: string,
  args: readonly string[] = [],
  enter: (root: string) => Promise<void> = async () => {},
): Promise<Asked> {
  const mounted = await mount(['--store', far, '--cache', cache, ...args]);
  const root = join(mounted.dir, String(APP));
  await enter(root);
  const before = proxy.sent;
  const paths = [...READ.map(nameOf), 'large'].map((name) => join(root, name));
  const ran = await run('python3', ['-c', PROGRAM, ...paths]);
  const sent = proxy.sent - before;
  expect(ran).toEqual({ status: 0, stdout: `${HASH}\n`, stderr: '' });
  const { status, log } = await mounted.stop();
  expect(status).toBe(0);
  const told = (name: string) => Number(new RegExp(`unmounted .*\\b${name}=(\\d+)`).exec(log)![1]);
  return { sent, waits: told('requests') - told('hits') };
}

/** How many of the small files that the program reads are not in a cache. */
function missingIn(cache: string): number {
  const local = LocalStore.openToRead(cache);
  const missing = READ.filter((i) => !local.reader.hasChunk(Digest.hash(contents(i)).bytes));
  void local.close();
  return missing.length;
}

const profile = (what: string, far: string, cache: string, ...args: string[]) =>
  tvixStore(['profile', what, '--store', far, '--cache', cache, ...args]);

describe('mount --prefetch', () => {
  test('brings what another machine has needed first, in few calls', async () => {
    const proxy = await TcpProxy.start(daemon.port);
    proxy.roundTrip = 20;
    const first = newCache();
    const alone = await used(proxy.url, proxy, first);
    const path = join(tempDir(), 'profiles');
    expect(await profile('export', proxy.url, first, '--to', path, app)).toMatchObject({ status: 0 });

    const second = newCache();
    expect(await profile('import', proxy.url, second, '--from', path)).toMatchObject({ status: 0 });
    const { down } = proxy;
    const asked = await used(proxy.url, proxy, second, ['--prefetch']);
    expect(asked.sent).toBeLessThan(alone.sent / 4);
    expect(asked.waits).toBeLessThan(alone.waits);
    // What was not needed has not come.
    expect(proxy.down - down).toBeLessThan(2 * MIB + NEEDED);
    // Nor is there anything to bring when it is all there.
    expect(await used(proxy.url, proxy, second, ['--prefetch'])).toEqual({ sent: 0, waits: 0 });
  });

  test('finds the profile beside the path info in a bucket', async () => {
    const first = newCache();
    const server = await servedByPython(bucketDir);
    const proxy = await TcpProxy.start(Number(server.split(':')[1]));
    const far = proxy.url.replace('grpc+', 'objectstore+');
    expect((await used(far, proxy, first)).sent).toBeGreaterThanOrEqual(READ.length);
    expect(await profile('export', far, first, '--to', bucket, app)).toMatchObject({ status: 0 });
    const cache = newCache();
    const enter = async (root: string) => {
      expect((await run('cat', [join(root, nameOf(READ[0]!))])).status).toBe(0);
      await expect.poll(() => missingIn(cache), { timeout: 30_000, interval: 50 }).toBe(0);
    };
    const asked = await used(far, proxy, cache, ['--prefetch'], enter);
    // What is left is the large file.
    expect(asked.sent).toBeLessThan(5);
  });

  test('reads the right bytes with a profile that is nonsense', async () => {
    const into = localStore(join(dir, 'store'));
    const info = (await into.pathInfos.get(APP.hash))!;
    await into.close();
    if (info.node.kind !== 'directory') throw new Error('a directory');
    const steps: Step[] = [
      { kind: 'file', directory: 0, entry: DIRECTORIES },
      { kind: 'part', directory: 0, entry: DIRECTORIES, start: 2 ** 31, count: 2 ** 31 },
      { kind: 'directory', directory: 0, entry: 1 },
      { kind: 'directory', directory: 1, entry: 0 },
      { kind: 'file', directory: 2, entry: 1 },
    ];
    const path = join(tempDir(), 'profiles');
    await writeProfiles(path, [{ hash: APP.hash, profile: { root: info.node.digest, steps } }]);
    const cache = newCache();
    expect(await profile('import', daemon.url, cache, '--from', path)).toMatchObject({ status: 0 });
    expect((await profile('show', daemon.url, cache, app)).status).toBe(1);
    await used(daemon.url, await TcpProxy.start(daemon.port), cache, ['--prefetch']);
  });

  test('is given up when the mount stops', async () => {
    const proxy = await TcpProxy.start(daemon.port);
    const first = newCache();
    await used(proxy.url, proxy, first);
    const path = join(tempDir(), 'profiles');
    await profile('export', proxy.url, first, '--to', path, app);
    const cache = newCache();
    await profile('import', proxy.url, cache, '--from', path);
    const mounted = await mount(['--store', proxy.url, '--cache', cache, '--prefetch']);
    // Nothing of a large file comes at this rate, and the rest takes its time.
    proxy.rate = 64 << 10;
    expect((await run('cat', [join(mounted.dir, String(APP), nameOf(READ[0]!))])).status).toBe(0);
    proxy.stall();
    expect((await mounted.stop()).status).toBe(0);
    proxy.flow();
  });

  test.each([
    [['--store', store], 'is on this machine'],
    [['--store', 'grpc+http://127.0.0.1:1', '--offline'], 'nothing is fetched'],
  ])('is wrong usage with %j', async (args, message) => {
    const { status, stderr } = await tvixStore(['mount', '--prefetch', ...args, tempDir()]);
    expect([status, stderr]).toEqual([2, expect.stringContaining(message)]);
  });
});

describe('warm --profile', () => {
  test('brings what the profile names, and nothing else', async () => {
    const proxy = await TcpProxy.start(daemon.port);
    const first = newCache();
    await used(proxy.url, proxy, first);
    const path = join(tempDir(), 'profiles');
    await profile('export', proxy.url, first, '--to', path, app);
    const cache = newCache();
    const warm = ['warm', '--store', proxy.url, '--cache', cache, '--profile', '--json', app];
    // There is none yet.
    expect(JSON.parse((await tvixStore(warm)).stdout)).toEqual({ paths: [], failed: [], fetchedBytes: 0 });
    await profile('import', proxy.url, cache, '--from', path);
    const { status, stdout, stderr } = await tvixStore(warm);
    expect(status, stderr).toBe(0);
    const { paths, fetchedBytes } = JSON.parse(stdout);
    expect(paths).toMatchObject([{ path: app }]);
    expect(fetchedBytes).toBeGreaterThan(NEEDED);
    expect(fetchedBytes).toBeLessThan(NEEDED + 2 * MIB);
    const gone = await TcpProxy.start(1);
    expect((await used(gone.url, gone, cache)).waits).toBe(0);
  });
});
