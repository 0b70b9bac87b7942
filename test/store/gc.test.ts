import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { Directory } from '../../src/castore/directory.ts';
import { Collector } from '../../src/castore/local/collector.ts';
import { PinFile, PinWriter } from '../../src/castore/local/pins.ts';
import { liveSessions } from '../../src/castore/local/session.ts';
import type { LocalStore } from '../../src/castore/local/store.ts';
import { LocalStore as Local } from '../../src/castore/local/store.ts';
import type { TableRow } from '../../src/castore/local/table.ts';
import { GRACE_MS } from '../../src/castore/local/writer.ts';
import type { Name } from '../../src/castore/node.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import type { GcOptions } from '../../src/store/keeping/gc.ts';
import { collectGarbage } from '../../src/store/keeping/gc.ts';
import { RootTable } from '../../src/store/keeping/roots.ts';
import { statsOf } from '../../src/store/keeping/stats.ts';
import { localBackend } from '../../src/store/open/backends/local.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import type { Store } from '../../src/store/services.ts';
import { randomBytes } from '../helpers/random.ts';
import { all, codeOf, readBlob, sha256 } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

let dir: string;
let opened: Local[];

beforeEach(() => {
  dir = tempDir();
  opened = [];
});
afterEach(async () => {
  vi.useRealTimers();
  for (const local of opened) await local.close();
});

function open(serves = false): Store & { local: LocalStore } {
  const local = Local.open(dir, 'store', serves);
  opened.push(local);
  return localBackend(local);
}

/** As if the process had ended: what it wrote is no longer held by that it lives. */
async function close(store: { local: LocalStore }): Promise<void> {
  opened.splice(opened.indexOf(store.local), 1);
  await store.local.close();
}

/** Puts a store path: a directory with these files. */
async function put(
  store: Store,
  name: string,
  files: Record<string, Uint8Array>,
  references: readonly PathInfo[] = [],
): Promise<PathInfo> {
  const entries = await Promise.all(
    Object.entries(files).map(async ([file, contents]) => {
      const { digest } = await store.blobs.put(contents);
      return [
        Buffer.from(file) as unknown as Name,
        { kind: 'file', digest, size: BigInt(contents.length), executable: false },
      ] as const;
    }),
  );
  const directory = Directory.of(entries);
  await store.directories.put(directory);
  await store.directories.flush();
  await store.blobs.flush();
  return store.pathInfos.put({
    storePath: StorePath.of(sha256(Buffer.from(name)).subarray(0, 20), name),
    node: { kind: 'directory', digest: directory.digest, size: directory.size },
    references: references.map(({ storePath }) => storePath),
    narSize: 1n,
    narSha256: new Uint8Array(32),
    signatures: [],
  });
}

const small = (seed: string) => randomBytes(1000, seed);
const large = (seed: string) => randomBytes(500_000, seed);

/** Puts paths in a process that has ended, before the last collection began. */
async function given(work: (store: Store) => Promise<unknown>): Promise<void> {
  const store = open();
  await work(store);
  await close(store);
  open().local.env.bumpEpoch();
}

async function gc(options: Partial<GcOptions> = {}) {
  const { local } = open();
  return collectGarbage(local, { olderThan: 0, dryRun: false, ...options });
}

async function names(): Promise<string[]> {
  return (await all(open().pathInfos.list())).map(({ storePath }) => storePath.name).sort();
}

function chunkFiles(): string[] {
  const chunks = join(dir, 'chunks');
  return readdirSync(chunks, { recursive: true, encoding: 'utf8' }).filter((name) =>
    statSync(join(chunks, name)).isFile(),
  );
}

describe('a collection', () => {
  test('frees what nothing holds, and what it alone referred to', async () => {
    await given(async (store) => {
      await put(store, 'kept', { shared: large('shared'), own: large('kept') });
      const gone = await put(store, 'gone', {
        shared: large('shared'),
        own: large('gone'),
        small: small('x'),
      });
      expect((await statsOf(open().local)).unreferenced.objects).toBe(0);
      return gone;
    });
    const { local } = open();
    new RootTable(local.env).add(
      'root',
      (await all(open().pathInfos.list())).find(({ storePath }) => storePath.name === 'kept')!.storePath,
    );
    const files = chunkFiles().length;
    const before = await statsOf(local);
    expect(await gc()).toMatchObject({ paths: 1, kept: 1, directories: 1, manifests: 1 });
    const after = await statsOf(local);
    expect(after).toMatchObject({ paths: 1, directories: 1, blobs: 2, unreferenced: { objects: 0 } });
    expect(before.storedSize - after.storedSize).toBeGreaterThan(500_000);
    expect(chunkFiles().length).toBe(after.chunkFiles);
    expect(chunkFiles().length).toBeLessThan(files);
    const store = open();
    expect((await readBlob(store, Digest.hash(large('shared'))))?.equals(large('shared'))).toBe(true);
    expect(await readBlob(store, Digest.hash(large('gone')))).toBeUndefined();
  });

  test('leaves what is referred to, also through what is only referred to', async () => {
    await given(async (store) => {
      const c = await put(store, 'c', { c: small('c') });
      const b = await put(store, 'b', { b: small('b') }, [c]);
      const a = await put(store, 'a', { a: small('a') }, [b]);
      await put(store, 'user', { u: small('u') }, [a, b]);
      new RootTable(open().local.env).add('root', a.storePath);
    });
    const told = new Map<string, string | undefined>();
    const onPath = (info: PathInfo, heldBy?: string) => void told.set(info.storePath.name, heldBy);
    const dry = await gc({ dryRun: true, onPath });
    expect(await names()).toEqual(['a', 'b', 'c', 'user']);
    expect(told.get('a')).toBe('the root root');
    expect(told.get('b')).toMatch(/-a$/);
    expect(told.get('c')).toMatch(/-b$/);
    expect([told.has('user'), told.get('user')]).toEqual([true, undefined]);
    expect(await gc()).toEqual(dry);
    expect(await names()).toEqual(['a', 'b', 'c']);
    new RootTable(open().local.env).remove('root');
    expect(await gc()).toMatchObject({ paths: 3, kept: 0 });
    expect(await statsOf(open().local)).toMatchObject({ paths: 0, directories: 0, chunks: 0 });
  });

  test('leaves what was put or asked for of late', async () => {
    await given(async (store) => {
      await put(store, 'old', { a: small('a') });
      vi.useFakeTimers({ now: Date.now() + 7200_000, toFake: ['Date'] });
      await put(store, 'new', { b: small('b') });
    });
    expect(await gc({ olderThan: 3600 })).toMatchObject({ paths: 1 });
    expect(await names()).toEqual(['new']);
    vi.setSystemTime(Date.now() + 7200_000);
    await given(async (store) => {
      const [info] = await all(store.pathInfos.list());
      await store.pathInfos.get(info!.storePath.hash);
    });
    expect(await gc({ olderThan: 3600 })).toMatchObject({ paths: 0 });
  });

  test('lets a root go when its time is over', async () => {
    await given(async (store) => {
      const info = await put(store, 'a', { a: small('a') });
      new RootTable(open().local.env).add('root', info.storePath, 60);
    });
    expect(await gc()).toMatchObject({ paths: 0 });
    vi.useFakeTimers({ now: Date.now() + 61_000, toFake: ['Date'] });
    expect(await gc()).toMatchObject({ paths: 1 });
    expect(new RootTable(open().local.env).list()).toEqual([]);
  });

  test('removes the files of writers that were killed, and not those of writers that live', async () => {
    await given((store) => put(store, 'a', { a: large('a') }));
    writeFileSync(join(aFolder(), `${'ab'.repeat(32)}.0123abcd`), large('torn'));
    const writer = open();
    const { digest } = await writer.blobs.put(large('under way'));
    const underWay = chunkFiles().length;
    await gc();
    expect(chunkFiles().length).toBeLessThan(underWay);
    expect(chunkFiles().some((name) => name.includes('0123abcd'))).toBe(false);
    await writer.blobs.flush();
    expect((await readBlob(open(), digest))?.equals(large('under way'))).toBe(true);
  });

  function aFolder(): string {
    const [first] = readdirSync(join(dir, 'chunks'));
    const [second] = readdirSync(join(dir, 'chunks', first!));
    return join(dir, 'chunks', first!, second!);
  }

  test('is one at a time', async () => {
    const collector = Collector.begin(open().local);
    expect(await codeOf(gc())).toBe('UNAVAILABLE');
    collector.end();
    expect(await gc()).toMatchObject({ paths: 0 });
  });

  test('is not for a cache', async () => {
    await Local.open(dir, 'cache').close();
    expect(await codeOf(gc())).toBe('FAILED_PRECONDITION');
  });
});

describe('a writer that lives keeps', () => {
  test('what it has put, and what it found there or said is there', async () => {
    await given(async (store) => {
      await put(store, 'old', { large: large('old'), small: small('old') });
    });
    const writer = open();
    await writer.blobs.put(small('new'));
    await writer.blobs.put(small('old'));
    await writer.blobs.flush();
    expect((await writer.blobs.chunks(Digest.hash(large('old'))))!.length).toBeGreaterThan(1);
    // What it could not keep is the path info, for which nobody asked.
    expect(await gc()).toMatchObject({ paths: 1 });
    expect(await gc()).toMatchObject({ paths: 0 });
    for (const contents of [small('new'), small('old'), large('old')]) {
      expect((await readBlob(open(), Digest.hash(contents)))?.equals(contents)).toBe(true);
    }
    await close(writer);
    expect(await gc()).toMatchObject({ chunks: expect.any(Number) });
    expect(await statsOf(open().local)).toMatchObject({ chunks: 0, directories: 0 });
  });

  test('a store path that somebody asked it for, with all that it refers to', async () => {
    let asked!: PathInfo;
    await given(async (store) => {
      const referred = await put(store, 'referred', { r: small('r') });
      asked = await put(store, 'asked', { a: large('a') }, [referred]);
      await put(store, 'other', { o: small('o') });
    });
    const writer = open();
    await writer.pathInfos.get(asked.storePath.hash);
    await gc();
    expect(await names()).toEqual(['asked', 'referred']);
    await close(writer);
    await gc();
    expect(await names()).toEqual([]);
  });

  test('a directory that somebody asked it for, with all below it', async () => {
    let info!: PathInfo;
    await given(async (store) => {
      info = await put(store, 'a', { a: large('a'), b: small('b') });
    });
    const writer = open();
    if (info.node.kind !== 'directory') throw new Error('put made no directory');
    expect(await writer.directories.get(info.node.digest)).toBeDefined();
    expect(await gc()).toMatchObject({ paths: 1, directories: 0, chunks: 0, manifests: 0 });
    expect((await readBlob(writer, Digest.hash(large('a'))))?.equals(large('a'))).toBe(true);
  });

  test('nothing that it put long ago, if it serves others and cannot know when they are done', async () => {
    vi.useFakeTimers({ toFake: ['Date', 'setTimeout', 'clearTimeout'] });
    const writer = open(true);
    await writer.blobs.put(small('old'));
    await writer.blobs.flush();
    const isThere = async () => (await readBlob(open(), Digest.hash(small('old')))) !== undefined;
    await gc();
    await vi.advanceTimersByTimeAsync(GRACE_MS + 1000);
    await gc();
    expect(await isThere()).toBe(true);
    await vi.advanceTimersByTimeAsync(GRACE_MS + 1000);
    await vi.waitFor(() => expect(liveSessions(writer.local.env)).toEqual([]));
    await gc();
    expect(await isThere()).toBe(false);
    await writer.blobs.put(small('old'));
    await writer.blobs.flush();
    await gc();
    expect(await isThere()).toBe(true);
  });
});

describe('a pin', () => {
  test('holds a store path and what it refers to, and goes with its mount', async () => {
    let pinned!: PathInfo;
    await given(async (store) => {
      const referred = await put(store, 'referred', { r: small('r') });
      pinned = await put(store, 'pinned', { p: small('p') }, [referred]);
    });
    const pins = PinFile.create(open().local.env);
    const writer = new PinWriter(pins.path);
    writer.pin(3, pinned.storePath.hash);
    await gc();
    expect(await names()).toEqual(['pinned', 'referred']);
    writer.unpin(3);
    writer.pin(0, pinned.storePath.hash);
    await gc();
    expect(await names()).toEqual(['pinned', 'referred']);
    pins.close();
    expect(await gc()).toMatchObject({ paths: 2 });
  });

  test('that comes while the collector decides is respected', async () => {
    let pinned!: PathInfo;
    await given(async (store) => {
      const referred = await put(store, 'referred', { r: small('r') });
      pinned = await put(store, 'pinned', { p: small('p') }, [referred]);
    });
    const { local } = open();
    const pins = PinFile.create(local.env);
    const transaction = local.env.transaction.bind(local.env);
    let done = false;
    vi.spyOn(local.env, 'transaction').mockImplementation((work) => {
      const result = transaction(work);
      // Between the two looks of the collector; the mount has looked before this commit.
      if (!done && local.env.table('condemned').count > 0) {
        new PinWriter(pins.path).pin(0, pinned.storePath.hash);
        done = true;
      }
      return result;
    });
    expect(await collectGarbage(local, { olderThan: 0, dryRun: false })).toMatchObject({ paths: 0, kept: 2 });
    expect(done).toBe(true);
    expect((await names()).length).toBe(2);
  });

  test('that a killed collector has missed is respected by the next one', async () => {
    await given((store) => put(store, 'a', { a: large('a') }));
    const { env } = open().local;
    const infos = env.table('pathinfo');
    const [{ key, value }] = [...infos.rows()] as [TableRow];
    // As it lies when the collector is killed before it has looked at the pins.
    env.transaction(() => {
      env.table('condemned').putSync(key, value);
      infos.removeSync(key);
    });
    const pins = PinFile.create(env);
    new PinWriter(pins.path).pin(0, key);
    expect(await gc()).toMatchObject({ paths: 0, kept: 1, chunks: 0 });
    expect(await names()).toEqual(['a']);
    expect(env.table('condemned').count).toBe(0);
  });
});

test('a store that was collected again and again is whole', async () => {
  for (let round = 0; round < 4; round++) {
    await given(async (store) => {
      for (let i = 0; i < 5; i++) {
        const seed = `${round} ${i}`;
        const info = await put(store, `p${round}${i}`, {
          a: large(seed),
          b: small(seed),
          c: large('common'),
        });
        if (i % 2) new RootTable(open().local.env).add(`r${seed}`, info.storePath);
      }
    });
    await gc();
  }
  expect((await names()).length).toBe(8);
  const store = open();
  for (const { node } of await all(store.pathInfos.list())) {
    if (node.kind !== 'directory') continue;
    for (const [, child] of (await store.directories.get(node.digest))!.entries()) {
      if (child.kind === 'file') expect(await readBlob(store, child.digest)).toBeDefined();
    }
  }
  expect((await statsOf(store.local)).unreferenced.objects).toBe(0);
});
