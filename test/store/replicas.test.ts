import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { NOWHERE, openStore } from '../../src/store/open/open-store.ts';
import type { Store, Use } from '../../src/store/services.ts';
import type { Patience } from '../../src/util/async/retry.ts';
import { directoryOf } from '../contract/directories.ts';
import { compositionFile } from '../helpers/composition.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { all, codeOf, localStore, readBlob } from '../helpers/services.ts';
import { putStorePath, storePathOf } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file } from '../helpers/trees.ts';

const LARGE = randomBytes(6 << 20, 'replicas');
const SMALL = Buffer.from('small');
const TREE = directory({ sub: directory({ large: file(LARGE) }), small: file(SMALL) });
const hash = (name: string) => storePathOf(name).hash;

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function open(
  address: string,
  use: Use = 'read',
  patience: Patience = { awayMs: 20_000 },
): Promise<Store> {
  const addresses = {
    blobs: address,
    directories: address,
    pathInfos: address,
    cacheDir: tempDir(),
    patience,
  };
  const store = await openStore(addresses, use);
  ends.push(() => store.close());
  return store;
}

interface Side {
  readonly dir: string;
  daemon: TestDaemon;
  readonly proxy: TcpProxy;
  readonly at: string;
}

/** A daemon over a store that has everything, behind a proxy. */
async function side(): Promise<Side> {
  const dir = tempDir();
  const store = localStore(dir);
  await putStorePath(store, 'tree', TREE);
  await store.close();
  const daemon = await startDaemon(`local://${dir}`);
  const proxy = await TcpProxy.start(daemon.port);
  const made = { dir, daemon, proxy, at: proxy.url.slice('grpc+http://'.length) };
  ends.push(
    () => proxy.close(),
    () => made.daemon.stop('SIGKILL'),
  );
  return made;
}

async function two(use?: Use, patience?: Patience) {
  const [first, second] = [await side(), await side()];
  const store = await open(`grpc+http://${first.at},${second.at}`, use, patience);
  return { first, second, store };
}

const small = (store: Store) => readBlob(store, Digest.hash(SMALL));

async function readsAll(store: Store): Promise<void> {
  const info = await store.pathInfos.get(hash('tree'));
  const root = info!.node as { digest: Digest };
  expect((await all(store.directories.getRecursive(root.digest))).length).toBe(2);
  expect(await small(store)).toEqual(SMALL);
  expect((await readBlob(store, Digest.hash(LARGE)))?.equals(LARGE)).toBe(true);
}

describe('of several stores with the same contents', () => {
  test('the first is asked, and only that one, as long as it is there', async () => {
    const { first, second, store } = await two();
    await readsAll(store);
    expect(first.proxy.down).toBeGreaterThan(LARGE.length);
    expect(second.proxy.connections).toBe(0);
  });

  test('one that is away costs nothing, is left alone, and is asked again once it is back', async () => {
    const { first, second, store } = await two();
    await small(store);
    first.proxy.target = 1;
    first.proxy.reset();
    await readsAll(store);
    const before = first.proxy.connections;
    for (let i = 0; i < 20; i++) expect(await small(store)).toEqual(SMALL);
    // Probes, and no more.
    expect(first.proxy.connections - before).toBeLessThan(5);
    first.proxy.target = first.daemon.port;
    const asked = () => first.proxy.count(() => small(store)).then(({ down }) => down);
    await expect.poll(asked, { timeout: 20_000 }).toBeGreaterThan(0);
    second.proxy.target = 1;
    second.proxy.reset();
    await readsAll(store);
  });

  test('the next is asked when the first is slow, and has an answer at once the next time', async () => {
    const { first, store } = await two();
    await small(store);
    first.proxy.stall();
    const begun = performance.now();
    expect(await small(store)).toEqual(SMALL);
    expect(performance.now() - begun).toBeLessThan(5000);
    await readsAll(store);
    first.proxy.flow();
    await readsAll(store);
  });

  test('one that does not have something is not believed while another may', async () => {
    const { first, second } = await two();
    const empty = await startDaemon(`local://${tempDir()}/store`);
    ends.push(() => empty.stop('SIGKILL'));
    const store = await open(`grpc+http://${first.at},127.0.0.1:${empty.port}`);
    first.proxy.roundTrip = 3000;
    expect(await small(store)).toEqual(SMALL);
    expect(await store.pathInfos.get(hash('none'))).toBeUndefined();
    expect(second.proxy.connections).toBe(0);
  });

  test('a stream goes on from another when the one that it comes from breaks', async () => {
    const { first, second, store } = await two();
    first.proxy.rate = 4 << 20;
    const parts = await store.blobs.read(Digest.hash(LARGE));
    const got: Uint8Array[] = [];
    let length = 0;
    for await (const part of parts!) {
      got.push(Uint8Array.from(part));
      length += part.length;
      if (length > LARGE.length / 4 && first.proxy.target !== 1) {
        first.proxy.target = 1;
        first.proxy.reset();
      }
    }
    expect(Buffer.concat(got).equals(LARGE)).toBe(true);
    expect(second.proxy.down).toBeGreaterThan(LARGE.length / 2);
  });

  test('all that is put goes to one of them, the first that is there', async () => {
    const { first, second, store } = await two('write');
    first.proxy.target = 1;
    await readsAll(store);
    const put = async (text: string) => {
      const one = directoryOf({ link: text });
      await store.blobs.put(Buffer.from(text));
      await store.directories.put(one);
      return one.digest;
    };
    const digest = await put('one');
    first.proxy.target = first.daemon.port;
    await delay(3000);
    const another = await put('another');
    expect(second.proxy.up).toBeGreaterThan(0);
    await store.close();
    ends.splice(ends.length - 1);
    for (const { daemon } of [first, second]) await daemon.stop();
    const there = localStore(second.dir);
    for (const one of [digest, another]) expect(await there.directories.get(one)).toBeDefined();
    await there.close();
    const not = localStore(first.dir);
    for (const one of [digest, another]) expect(await not.directories.get(one)).toBeUndefined();
    await not.close();
  });

  test('an error names all of them when none is there, at once where none ever was', async () => {
    const patience = { awayMs: 60_000, firstAnswerMs: 4000 };
    const store = await open('grpc+http://127.0.0.1:1,127.0.0.1:2', 'read', patience);
    const begun = performance.now();
    const failure = await small(store).catch((error: Error) => error);
    expect((failure as Error).message).toMatch(/127\.0\.0\.1:[12]/);
    expect(performance.now() - begun).toBeLessThan(5000);
    const { first, second, store: known } = await two('read', { awayMs: 2000 });
    await small(known);
    for (const { proxy } of [first, second]) {
      proxy.target = 1;
      proxy.reset();
    }
    const later = await small(known).catch((error: Error) => error);
    for (const { at } of [first, second]) expect((later as Error).message).toContain(at);
  });
});

describe('several stores are named', () => {
  test('in every way there is', async () => {
    const { first, second } = await two();
    const port = second.at.split(':')[1];
    const ways = [
      `grpc+http://${first.at},${second.at}`,
      `replicas://?of=grpc%2Bhttp://${first.at}&of=grpc%2Bhttp://${second.at}`,
      // The port of the last is that of all that name none.
      `grpc+http://localhost,127.0.0.1:${port}`,
      `grpc+http://localhost,[::1],127.0.0.1:${port}?protocol=tvix`,
    ];
    for (const way of ways) expect([way, await small(await open(way))]).toEqual([way, SMALL]);
  });

  test('in a composition, too', async () => {
    const { first, second } = await two();
    const root = `root = { type = "replicas", of = ["grpc+http://${first.at}", "&other"] }`;
    const other = `other = { type = "grpc", url = "grpc+http://${second.at}" }`;
    const sections = ['blobservices', 'directoryservices', 'pathinfoservices'];
    const composition = compositionFile(
      sections.map((section) => `[${section}]\n${root}\n${other}`).join('\n'),
      false,
    );
    first.proxy.target = 1;
    const store = await openStore({ ...NOWHERE, composition, cacheDir: tempDir() }, 'read');
    ends.push(() => store.close());
    await readsAll(store);
    const one = compositionFile('[blobservices]\nroot = { type = "replicas", of = ["memory://"] }', false);
    await expect(openStore({ ...NOWHERE, composition: one, cacheDir: tempDir() }, 'read')).rejects.toThrow(
      /:2: blobservices\.root\.of: it must be a list of two or more/,
    );
  });

  test('or it is wrong usage', async () => {
    const wrong = {
      'replicas://': 'two or more',
      'replicas://?of=memory://': 'two or more',
      'replicas://?of=memory://&of=nothing': 'not an address',
      'replicas://?of=memory://&of=memory://&near=memory://': 'unknown parameter "near"',
      'replicas://?of=memory://&of=nix%2Bhttp://127.0.0.1:1': 'substituter',
      'grpc+http://a,:8000': 'not an address',
    };
    for (const [address, said] of Object.entries(wrong)) {
      const failure = await open(address).catch((error: Error) => error);
      expect([address, (failure as Error).message]).toEqual([address, expect.stringContaining(said)]);
      expect(await codeOf(Promise.reject(failure))).toBe('INVALID_ARGUMENT');
    }
  });
});
