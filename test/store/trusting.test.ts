import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { EMPTY_DIGEST } from '../../src/castore/digest.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import type { PublicKey } from '../../src/nix/key.ts';
import { SecretKey } from '../../src/nix/key.ts';
import { castoreName } from '../../src/nix/signature.ts';
import { importNar } from '../../src/store/nar/import.ts';
import { localBackend } from '../../src/store/open/backends/local.ts';
import { openStore } from '../../src/store/open/open-store.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { hasContents } from '../../src/store/path-info/path-info.ts';
import { TrustingPathInfoService } from '../../src/store/path-info/trusting.ts';
import type { Services, Store } from '../../src/store/services.ts';
import { Believer } from '../../src/store/trust/believer.ts';
import { CheckedPaths } from '../../src/store/trust/checked-paths.ts';
import { signaturesBy } from '../../src/store/trust/verify.ts';
import { watchArrivals } from '../../src/util/async/arrivals.ts';
import { CacheServer, testPath } from '../helpers/binary-cache.ts';
import { narOf } from '../helpers/nar.ts';
import { randomBytes } from '../helpers/random.ts';
import { all, codeOf, memoryStore } from '../helpers/services.ts';
import { putStorePath, storePathOf } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file } from '../helpers/trees.ts';

const KEY = SecretKey.generate('trusted-1');
const OTHER = SecretKey.generate('other-1');
const TREE = directory({ a: file('a'), b: directory({ c: file('c'.repeat(300_000)) }) });

const OTHER_ROOT = { kind: 'file', digest: EMPTY_DIGEST, size: 0n, executable: false } as const;

interface Opened {
  readonly store: Store;
  readonly trusting: TrustingPathInfoService;
  /** Blobs that were read of it. */
  readonly reads: () => number;
  readonly cacheDir: string;
}

/** A store that somebody else has filled, and what is believed of it. */
function open(cacheDir = join(tempDir(), 'cache'), store = memoryStore(), keys = [KEY.publicKey]): Opened {
  let reads = 0;
  const read: Services['blobs']['read'] = (...args) => {
    reads++;
    return store.blobs.read(...args);
  };
  const blobs = new Proxy(store.blobs, {
    get: (target, name) => {
      const value = name === 'read' ? read : Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  let cache: LocalStore | undefined;
  const believer = new Believer(keys, {
    contents: { blobs, directories: store.directories },
    cache: () => {
      cache ??= LocalStore.openToFill(cacheDir);
      return cache;
    },
    listsBelieved: false,
  });
  const trusting = new TrustingPathInfoService(store.pathInfos, believer, { where: 'far', isCopy: false });
  return { store, trusting, reads: () => reads, cacheDir };
}

async function put(
  store: Store,
  change: (info: PathInfo) => Partial<PathInfo> = () => ({}),
): Promise<PathInfo> {
  const info = await putStorePath(store, 'path', TREE);
  const told = { ...info, ...change(info) };
  return (await store.pathInfos.replace!(told)) as PathInfo;
}

const { hash } = storePathOf('path');

describe('with trusted keys, a path info', () => {
  test('is believed at once with a signature over its root', async () => {
    const { store, trusting, reads } = open();
    await put(store, (info) => ({ signatures: signaturesBy(KEY, info).slice(1) }));
    expect((await trusting.get(hash))?.storePath.name).toBe('path');
    expect(hasContents((await trusting.describe(hash))!)).toBe(true);
    expect(await all(trusting.list())).toHaveLength(1);
    expect(reads()).toBe(0);
    expect(await trusting.get(storePathOf('absent').hash)).toBeUndefined();
  });

  test('is believed with a signature for Nix when all of it has been read, which is done once', async () => {
    const first = open();
    const info = await put(first.store, (info) => ({ signatures: [KEY.sign(info)] }));
    // To describe it is to read nothing, and so to say nothing of the root.
    expect(hasContents((await first.trusting.describe(hash))!)).toBe(false);
    expect(first.reads()).toBe(0);
    const many = await Promise.all(Array.from({ length: 20 }, () => first.trusting.get(hash)));
    expect(many.map((one) => one?.node)).toEqual(many.map(() => info.node));
    const once = first.reads();
    expect(once).toBeGreaterThan(0);
    await first.trusting.get(hash);
    expect(hasContents((await first.trusting.describe(hash))!)).toBe(true);
    expect(first.reads()).toBe(once);
    // Another process of this machine need not, with whatever keys.
    await first.store.pathInfos.put({ ...info, signatures: [OTHER.sign(info)] });
    const second = open(first.cacheDir, first.store, [OTHER.publicKey]);
    expect((await second.trusting.get(hash))?.node).toEqual(info.node);
    expect(second.reads()).toBe(0);
  });

  test('is believed with a content address when all of it has been read', async () => {
    const store = memoryStore();
    const nar = async function* () {
      yield narOf(TREE);
    };
    const { storePath } = await importNar(store, nar(), 'addressed');
    const { trusting, reads } = open(undefined, store);
    expect((await trusting.get(storePath.hash))?.storePath.name).toBe('addressed');
    expect(reads()).toBeGreaterThan(0);
  });

  test('is refused in words, and does not look as if it were not there', async () => {
    const { store, trusting } = open();
    const info = await put(store, (info) => ({ signatures: signaturesBy(OTHER, info) }));
    const message = new RegExp(
      `${info.storePath.absolute()} of far has no valid signature of a key that is trusted ` +
        '.trusted: trusted-1; signatures: "other-1", "other-1.castore".',
    );
    for (const asked of [
      () => trusting.get(hash),
      () => trusting.describe(hash),
      () => all(trusting.list()),
    ]) {
      await expect(asked()).rejects.toThrow(message);
      expect(await codeOf(asked())).toBe('PERMISSION_DENIED');
    }
  });

  test.each<[string, (info: PathInfo) => Partial<PathInfo>]>([
    [
      'another root with the signatures of the right one',
      (info) => {
        return { node: OTHER_ROOT, signatures: signaturesBy(KEY, info).slice(1) };
      },
    ],
    [
      'the signature of another path',
      (info) => {
        return { signatures: signaturesBy(KEY, { ...info, storePath: storePathOf('other') }) };
      },
    ],
    [
      'other references',
      (info) => {
        return { references: [storePathOf('added')], signatures: signaturesBy(KEY, info) };
      },
    ],
    [
      'another NAR hash',
      (info) => {
        return { narSha256: randomBytes(32), signatures: signaturesBy(KEY, info) };
      },
    ],
    [
      'signatures of another key of the same name',
      (info) => {
        return { signatures: signaturesBy(SecretKey.generate(KEY.name), info) };
      },
    ],
    [
      'a signature for Nix as one over the root',
      (info) => {
        return { signatures: [{ name: castoreName(KEY.name), data: KEY.sign(info).data }] };
      },
    ],
    [
      'one over the root as a signature for Nix',
      (info) => {
        return { signatures: [{ name: KEY.name, data: signaturesBy(KEY, info)[1]!.data }] };
      },
    ],
    ['no signature', () => ({})],
  ])('is refused with %s, and nothing is read for it', async (_, change) => {
    const { store, trusting, reads } = open();
    await put(store, change);
    expect(await codeOf(trusting.get(hash))).toBe('PERMISSION_DENIED');
    expect(reads()).toBe(0);
  });

  test('is refused with another root under a good signature for Nix, also after the right one was believed', async () => {
    const { store, trusting, cacheDir } = open();
    const info = await put(store, (info) => ({ signatures: [KEY.sign(info)] }));
    await trusting.get(hash);
    const wrong = await putStorePath(store, 'wrong', directory({ a: file('x') }));
    const forged = { ...info, node: wrong.node };
    await store.pathInfos.replace!(forged);
    await expect(trusting.get(hash)).rejects.toThrow(
      /path of far is not what was signed: its NAR has \d+ bytes/,
    );
    expect(hasContents((await trusting.describe(hash))!)).toBe(false);
    const cache = LocalStore.openToFill(cacheDir);
    const checked = new CheckedPaths(cache.env);
    expect([checked.hasNow(info), checked.hasNow(forged)]).toEqual([true, false]);
    await cache.close();
  });

  test('that waits for its turn to be checked hears of what comes for those before it', async () => {
    const store = memoryStore();
    const names = ['one', 'two', 'three'];
    for (const name of names) {
      const info = await putStorePath(store, name, directory({ a: file(name.repeat(100_000)) }));
      await store.pathInfos.put({ ...info, signatures: [KEY.sign(info)] });
    }
    const gate = Promise.withResolvers<void>();
    const read = store.blobs.read.bind(store.blobs);
    store.blobs.read = async (...args) => {
      const parts = await read(...args);
      await gate.promise;
      return parts;
    };
    const { trusting } = open(undefined, store);
    let others = 0;
    const get = (name: string, onArrival: (bytes: number) => void) =>
      watchArrivals(onArrival, () => trusting.get(storePathOf(name).hash));
    const first = names.slice(0, 2).map((name) => get(name, () => {}));
    let done = false;
    const last = get('three', (bytes) => {
      if (!done) others += bytes;
    });
    await setTimeout(100);
    gate.resolve();
    await Promise.all(first);
    done = true;
    await last;
    expect(others).toBeGreaterThan(200_000);
  });

  test('with thousands of signatures is work for a moment', async () => {
    const { store, trusting } = open();
    const junk = (name: string) =>
      Array.from({ length: 20_000 }, (_, i) => ({ name, data: randomBytes(64, i) }));
    const begun = performance.now();
    await put(store, () => ({ signatures: [...junk(KEY.name), ...junk(castoreName(KEY.name))] }));
    const filled = performance.now();
    expect(await codeOf(trusting.get(hash))).toBe('PERMISSION_DENIED');
    expect(performance.now() - filled).toBeLessThan(Math.max(500, filled - begun));
  });
});

describe('a store that is opened with trusted keys', () => {
  const openAt = (
    address: string,
    trustedKeys: PublicKey[] | undefined,
    cacheDir = join(tempDir(), 'cache'),
  ) =>
    openStore({ blobs: address, directories: address, pathInfos: address, cacheDir, trustedKeys }, 'write');

  test('asks the far store again for what its near copy should not have, and believes what is its own', async () => {
    const dir = tempDir();
    const [bucket, near] = [`objectstore+file://${dir}/bucket`, `local://${dir}/near`];
    const far = await openAt(bucket, undefined);
    const right = await putStorePath(far, 'path', TREE);
    await far.pathInfos.put({ ...right, signatures: signaturesBy(KEY, right) });
    await far.close();
    // Before there were keys, somebody in between gave another root.
    const cache = LocalStore.openToFill(`${dir}/near`);
    const copies = localBackend(cache);
    const forged = await putStorePath(copies, 'path', file('forged'));
    await copies.close();
    const address = `cache://?near=${encodeURIComponent(near)}&far=${encodeURIComponent(bucket)}`;
    const before = await openAt(address, undefined);
    expect((await before.pathInfos.get(hash))?.node).toEqual(forged.node);
    await before.close();
    const store = await openAt(address, [KEY.publicKey]);
    expect((await store.pathInfos.get(hash))?.node).toEqual(right.node);
    await store.close();

    const own = await openAt(`local://${dir}/own`, [KEY.publicKey]);
    const unsigned = await putStorePath(own, 'unsigned', TREE);
    expect(await own.pathInfos.get(unsigned.storePath.hash)).toBeDefined();
    await own.close();
    const combined = await openAt(
      `combined://?near=${encodeURIComponent(`local://${dir}/own`)}&far=${encodeURIComponent(bucket)}`,
      [OTHER.publicKey],
    );
    expect(await combined.pathInfos.get(unsigned.storePath.hash)).toBeDefined();
    expect(await codeOf(combined.pathInfos.get(hash))).toBe('PERMISSION_DENIED');
    await combined.close();
  });

  test('counts them for a binary cache as well, and no others, as Nix does', async () => {
    const cacheOf = (key: SecretKey | undefined) => CacheServer.start([testPath('path', { key })]);
    const [byOurs, byOther] = [await cacheOf(KEY), await cacheOf(OTHER)];
    const get = async (address: string) => {
      const store = await openStore(
        {
          blobs: address,
          directories: address,
          pathInfos: address,
          cacheDir: tempDir(),
          trustedKeys: [KEY.publicKey],
        },
        'read',
      );
      try {
        const info = await store.pathInfos.get(testPath('path').info.storePath.hash);
        // It is in the cache by now, and known to be right.
        expect(await store.pathInfos.get(info!.storePath.hash)).toEqual(info);
        return info;
      } finally {
        await store.close();
      }
    };
    expect(await get(`nix+${byOurs.origin}`)).toBeDefined();
    const key = encodeURIComponent(`${OTHER.publicKey}`);
    for (const how of [`trusted-public-keys=${key}`, 'trusted=1'])
      expect(await codeOf(get(`nix+${byOther.origin}?${how}`))).toBe('PERMISSION_DENIED');
  });
});
