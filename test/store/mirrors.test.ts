import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { BlobService } from '../../src/castore/blob/service.ts';
import { Digest } from '../../src/castore/digest.ts';
import { AccessRule } from '../../src/server/access/rule.ts';
import { serveGrpc } from '../../src/server/grpc/server.ts';
import { openStore } from '../../src/store/open/open-store.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import type { Store } from '../../src/store/services.ts';
import { damaged } from '../../src/util/errors.ts';
import { tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { all, localStore } from '../helpers/services.ts';
import { counted, except } from '../helpers/services-that.ts';
import { putStorePath, storePathOf } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file } from '../helpers/trees.ts';

const LARGE = randomBytes(5 << 20, 'large of mirrors');
const SMALL = Array.from({ length: 200 }, (_, i) => randomBytes(20_000, `small ${i}`));
const SMALL_BYTES = SMALL.length * 20_000;
const TREE = directory({
  large: file(LARGE),
  sub: directory({ one: file('one'), below: directory({ two: file('two') }) }),
  small: directory(Object.fromEntries(SMALL.map((bytes, i) => [`${i}`, file(bytes)]))),
});

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** A store with the tree, or with nothing. */
async function filled(isEmpty = false): Promise<{ dir: string; info: PathInfo | undefined }> {
  const dir = tempDir();
  const store = localStore(dir);
  const info = isEmpty ? undefined : await putStorePath(store, 'mirrored', TREE);
  await store.close();
  return { dir, info };
}

/** A daemon over such a store, behind a proxy. */
async function side({ isEmpty = false, roundTrip = 0 } = {}) {
  const { dir } = await filled(isEmpty);
  const daemon = await startDaemon(`local://${dir}`);
  const proxy = await TcpProxy.start(daemon.port);
  proxy.roundTrip = roundTrip;
  ends.push(() => daemon.stop('SIGKILL'));
  ends.push(() => proxy.close());
  return { daemon, proxy, url: proxy.url };
}

type Twist = (store: Store) => Partial<{ [K in keyof Store]: Partial<Store[K]> }>;

/** A daemon in this process that answers some questions in its own way, and how often it was asked for blobs and directories. */
async function twisted(twist: Twist) {
  const { dir } = await filled();
  const store = localStore(dir);
  const { blobs = {}, directories = {} } = twist(store);
  const ofBlobs = counted(except(store.blobs, blobs as Partial<BlobService>));
  const ofDirectories = counted(except(store.directories, directories as object));
  const socket = join(tempDir(), 'socket');
  const server = await serveGrpc({
    store: { ...store, local: undefined, blobs: ofBlobs.service, directories: ofDirectories.service },
    listen: { kind: 'unix', path: socket },
    ownership: {},
    access: new AccessRule({ tokens: undefined, anonymous: false, readOnly: true }),
  });
  ends.push(() => store.close());
  ends.push(() => server.stop(AbortSignal.abort()));
  return { url: `grpc+unix://${socket}`, blobs: ofBlobs.calls, directories: ofDirectories.calls };
}

async function open(address: string, mirrors: readonly string[]): Promise<Store> {
  const at = { blobs: address, directories: address, pathInfos: address };
  const store = await openStore(
    { ...at, mirrors, cacheDir: tempDir(), patience: { awayMs: 20_000 } },
    'read',
  );
  ends.push(() => store.close());
  return store;
}

/** A blob as whoever reads a tree asks for it, who knows how long it is. */
async function contents({ blobs }: Store, bytes: Uint8Array): Promise<Buffer | undefined> {
  const parts = await blobs.read(Digest.hash(bytes), { size: bytes.length });
  return parts && Buffer.concat(await all(parts));
}

async function readsSmall(store: Store, from = 0, to = SMALL.length): Promise<void> {
  for (const bytes of SMALL.slice(from, to)) expect((await contents(store, bytes))?.equals(bytes)).toBe(true);
}

async function readsLarge(store: Store): Promise<void> {
  expect((await contents(store, LARGE))?.equals(LARGE)).toBe(true);
}

async function readsTree(store: Store): Promise<void> {
  const info = await store.pathInfos.get(storePathOf('mirrored').hash);
  const { digest } = info!.node as { digest: Digest };
  const directories = await all(store.directories.getRecursive(digest));
  expect(directories.map((one) => one.digest.hex).toSorted()).toHaveLength(4);
  expect(new Set(directories.map((one) => one.digest.hex)).size).toBe(4);
}

async function readsAll(store: Store): Promise<void> {
  await readsTree(store);
  await readsSmall(store);
  await readsLarge(store);
}

describe('of mirrors beside a store', () => {
  test('the fast one gives the contents, and the store says what paths are', async () => {
    const [slow, fast, store] = [await side({ roundTrip: 300 }), await side(), await side({ roundTrip: 40 })];
    await readsAll(await open(store.url, [slow.url, fast.url]));
    const bytes = SMALL_BYTES + LARGE.length;
    expect(fast.proxy.down).toBeGreaterThan(bytes / 2);
    expect(slow.proxy.down).toBeLessThan(bytes / 4);
    expect(store.proxy.down).toBeLessThan(bytes / 4);
  });

  test('one that becomes slow gives way to the other', async () => {
    const [first, second, store] = [await side(), await side({ roundTrip: 100 }), await side()];
    const opened = await open(store.url, [first.url, second.url]);
    await readsSmall(opened, 0, 30);
    first.proxy.roundTrip = 2000;
    const before = [first.proxy.down, second.proxy.down] as const;
    await readsSmall(opened, 30, 90);
    expect(second.proxy.down - before[1]).toBeGreaterThan(first.proxy.down - before[0]);
  });

  test.each<[string, Twist]>([
    [
      'small files',
      ({ blobs }) => ({ blobs: { read: async () => blobs.read(Digest.hash(Buffer.from('one'))) } }),
    ],
    [
      'all that has been read',
      ({ blobs }) => ({
        blobs: {
          async read(digest, options) {
            const parts = await blobs.read(digest, options);
            return parts && spoilt(parts);
          },
        },
      }),
    ],
  ])('one that lies about %s is asked once', async (_, twist) => {
    const [liar, store] = [await twisted(twist), await side()];
    const opened = await open(store.url, [liar.url]);
    await readsSmall(opened);
    await readsLarge(opened);
    expect(liar.blobs.read).toBe(1);
  });

  test('one that gives other directories is left in the middle of a tree', async () => {
    const liar = await twisted(({ directories }) => ({
      directories: {
        async *getRecursive(digest, signal) {
          let isFirst = true;
          for await (const one of directories.getRecursive(digest, signal)) {
            if (isFirst) yield one;
            else yield* childrenOf(directories, one.digest);
            isFirst = false;
          }
        },
      },
    }));
    const opened = await open((await side()).url, [liar.url]);
    await readsTree(opened);
    await readsTree(opened);
    expect(liar.directories.getRecursive).toBe(1);
  });

  test('one that has only a part of a tree, as a cache may, gives what it has', async () => {
    const part = await twisted(({ blobs, directories }) => ({
      directories: {
        async *getRecursive(digest, signal) {
          for await (const one of directories.getRecursive(digest, signal)) {
            yield one;
            throw damaged('the next directory is missing');
          }
        },
      },
      blobs: {
        read: async (digest, options) => (digest.bytes[0]! < 128 ? blobs.read(digest, options) : undefined),
      },
    }));
    const store = await side();
    const opened = await open(store.url, [part.url]);
    await readsAll(opened);
    expect(part.blobs.read).toBeGreaterThan(SMALL.length * 0.8);
    expect(store.proxy.down).toBeLessThan((SMALL_BYTES + LARGE.length) * 0.75);
  });

  test('one that lacks everything is asked less and less', async () => {
    const nothing = await twisted(() => ({
      blobs: { read: async () => undefined, chunks: async () => undefined },
    }));
    const opened = await open((await side()).url, [nothing.url]);
    await readsSmall(opened);
    expect(nothing.blobs.read).toBeLessThan(40);
  });

  test('nobody is believed in what a large file is made of, as long as the store is there', async () => {
    const liar = await twisted(({ blobs }) => ({
      blobs: { chunks: async (digest, signal) => (await blobs.chunks(digest, signal))?.toReversed() },
    }));
    const opened = await open((await side()).url, [liar.url]);
    await readsLarge(opened);
    expect(liar.blobs.chunks).toBeUndefined();
    expect(liar.blobs.read).toBeGreaterThan(5);
  });

  test('one that dies in the middle, and one that was never there, cost nothing but time', async () => {
    const [dying, store] = [await side(), await side()];
    const opened = await open(store.url, ['grpc+http://127.0.0.1:1', dying.url]);
    await readsSmall(opened, 0, 50);
    dying.proxy.rate = 1 << 20;
    const large = readsLarge(opened);
    const { down } = dying.proxy;
    await expect.poll(() => dying.proxy.down - down, { timeout: 20_000 }).toBeGreaterThan(500_000);
    dying.proxy.target = 1;
    dying.proxy.reset();
    await large;
    await readsSmall(opened, 50);
    dying.proxy.target = dying.daemon.port;
    dying.proxy.rate = Number.POSITIVE_INFINITY;
    const again = () => dying.proxy.count(() => readsSmall(opened, 0, 5)).then((counted) => counted.down);
    await expect.poll(again, { timeout: 20_000 }).toBeGreaterThan(50_000);
  });

  test('one that does not answer any more is left alone', async () => {
    let isStill = false;
    const never = new Promise<never>(() => {});
    const stalling = await twisted(({ blobs }) => ({
      blobs: { read: (digest, options) => (isStill ? never : blobs.read(digest, options)) },
    }));
    const opened = await open((await side()).url, [stalling.url]);
    await readsSmall(opened, 0, 20);
    expect(stalling.blobs.read).toBe(20);
    isStill = true;
    await readsSmall(opened, 20);
    expect(stalling.blobs.read).toBeLessThan(60);
  });

  test('can be named in an address', async () => {
    const [mirror, store] = [await side(), await side()];
    const mirrors = [mirror.url, 'grpc+http://127.0.0.1:1'].map(
      (url) => `&mirrors=${encodeURIComponent(url)}`,
    );
    await readsAll(await open(`mirrored://?store=${encodeURIComponent(store.url)}${mirrors.join('')}`, []));
    expect(mirror.proxy.down).toBeGreaterThan(store.proxy.down);
  });

  test('all of them serve what a store has that has gone, when its paths are known', async () => {
    const [mirror, store] = [await side(), await side()];
    const opened = await open(store.url, [mirror.url]);
    await readsTree(opened);
    store.proxy.target = 1;
    store.proxy.reset();
    await readsSmall(opened);
    await readsLarge(opened);
  });
});

/** A tree, which nobody has asked for here. */
async function* childrenOf(directories: Store['directories'], digest: Digest) {
  const [only] = await all(directories.getRecursive(digest));
  for (const child of only!.children()) yield* directories.getRecursive(child.digest);
  yield only!;
  yield only!;
}

async function* spoilt(parts: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const part of parts) {
    const copy = Uint8Array.from(part);
    copy[copy.length >> 1]! ^= 1;
    yield copy;
  }
}

describe('--mirror', () => {
  test('is of use with a cache of a neighbour, which a daemon serves', async () => {
    const store = await side();
    const cache = join(tempDir(), 'cache');
    const path = storePathOf('mirrored').absolute();
    const near = `cache://?near=local://${cache}&far=${store.url}`;
    const to = () => `local://${tempDir()}/to`;
    const first = await tvixStore(['copy', '--from', near, '--to', to(), path]);
    expect(first, first.stderr).toMatchObject({ status: 0 });
    const neighbour = await startDaemon(`local://${cache}`, '127.0.0.1:0', ['--read-only']);
    ends.push(() => neighbour.stop());
    const mirror = await TcpProxy.start(neighbour.port);
    ends.push(() => mirror.close());
    const { down } = store.proxy;
    const second = await tvixStore(['copy', '--from', store.url, '--mirror', mirror.url, '--to', to(), path]);
    expect(second, second.stderr).toMatchObject({ status: 0, stdout: `${path}\n` });
    expect(mirror.down).toBeGreaterThan(store.proxy.down - down);
  });

  test('names in the log who lies', async () => {
    const liar = await twisted(({ blobs }) => ({
      blobs: { read: async () => blobs.read(Digest.hash(Buffer.from('two'))) },
    }));
    const store = await side();
    const path = storePathOf('mirrored').absolute();
    const cat = await tvixStore(['cat', '--store', store.url, '--mirror', liar.url, `${path}/sub/one`]);
    expect(cat).toMatchObject({ status: 0, stdout: 'one' });
    expect(cat.stderr).toContain(`a mirror gives what is wrong; it is not asked any more mirror=${liar.url}`);
  });
});
