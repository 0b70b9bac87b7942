import { describe, expect, test } from 'vitest';
import { CachedPathInfoService } from '../../src/store/path-info/cached.ts';
import { LruPathInfoService } from '../../src/store/path-info/lru.ts';
import { MemoryPathInfoService } from '../../src/store/path-info/memory.ts';
import type { PathInfoService } from '../../src/store/path-info/service.ts';
import { StoreError } from '../../src/util/errors.ts';
import { pathInfo, pathInfoServiceContract } from '../contract/path-infos.ts';
import { all, localStore } from '../helpers/services.ts';
import { counted, except, failing } from '../helpers/services-that.ts';
import { tempDir } from '../helpers/temp.ts';

describe.each(['near', 'far'] as const)('a cache of path infos where puts go %s', (puts) => {
  pathInfoServiceContract(async () => ({
    pathInfos: new CachedPathInfoService(new MemoryPathInfoService(), new MemoryPathInfoService(), puts),
    close: async () => {},
  }));
});

describe('a cache of path infos in a local store', () => {
  pathInfoServiceContract(async () => {
    const near = localStore(tempDir());
    const pathInfos = new CachedPathInfoService(near.pathInfos, new MemoryPathInfoService(), 'far');
    const close = async () => {
      await pathInfos.settle();
      await near.close();
    };
    return { pathInfos, close };
  });
});

describe('path infos that were used last', () => {
  pathInfoServiceContract(async () => ({ pathInfos: new LruPathInfoService(100), close: async () => {} }));

  test('are no more than was said', async () => {
    const lru = new LruPathInfoService(2);
    const [a, b, c] = ['a', 'b', 'c'].map(pathInfo);
    await lru.put(a!);
    await lru.put(b!);
    await lru.get(a!.storePath.hash);
    await lru.put(c!);
    expect((await all(lru.list())).map(({ storePath }) => storePath.name).sort()).toEqual(['a', 'c']);
    expect(await lru.get(b!.storePath.hash)).toBeUndefined();
  });
});

const INFO = pathInfo('far');
const { hash } = INFO.storePath;

async function cache(near: PathInfoService = new MemoryPathInfoService(), puts: 'near' | 'far' = 'far') {
  const memory = new MemoryPathInfoService();
  await memory.put(INFO);
  const { service: far, calls } = counted<PathInfoService>(memory);
  return { pathInfos: new CachedPathInfoService(near, far, puts), near, far, calls };
}

describe('a cache of path infos', () => {
  test('asks far once for what many want, and not again', async () => {
    const { pathInfos, calls } = await cache();
    const found = await Promise.all(Array.from({ length: 10 }, () => pathInfos.get(hash)));
    for (const info of found) expect(info).toEqual(INFO);
    await pathInfos.settle();
    expect(await pathInfos.get(hash)).toEqual(INFO);
    expect(await pathInfos.describe(hash)).toEqual(INFO);
    expect(calls).toEqual({ get: 1 });
  });

  test('describes without fetching', async () => {
    const { pathInfos, calls, near } = await cache();
    expect(await pathInfos.describe(hash)).toEqual(INFO);
    expect(calls).toEqual({ describe: 1 });
    expect(await near.get(hash)).toBeUndefined();
  });

  test.each([
    ['is full', failing<PathInfoService>(new MemoryPathInfoService(), 'put')],
    ['is broken', failing<PathInfoService>(new MemoryPathInfoService())],
  ])('gives and takes everything when near %s', async (_, near) => {
    const { pathInfos } = await cache(near);
    expect(await pathInfos.get(hash)).toEqual(INFO);
    await pathInfos.settle();
    const other = pathInfo('other');
    await pathInfos.put(other);
    expect(await pathInfos.get(other.storePath.hash)).toEqual(other);
    expect(await pathInfos.get(hash)).toEqual(INFO);
  });

  test('puts into one of the two, and gives what was put last', async () => {
    for (const puts of ['near', 'far'] as const) {
      const { pathInfos, near, far } = await cache(undefined, puts);
      await pathInfos.get(hash);
      await pathInfos.put({ ...INFO, narSize: 7n });
      await pathInfos.settle();
      expect(await pathInfos.get(hash)).toMatchObject({ narSize: 7n });
      expect(await (puts === 'near' ? near : far).get(hash)).toMatchObject({ narSize: 7n });
      if (puts === 'near') expect(await far.get(hash)).toEqual(INFO);
    }
  });

  test('lists what near has of its own when far cannot tell what it has', async () => {
    const untold = except<PathInfoService>(new MemoryPathInfoService(), {
      list: () => {
        throw new StoreError('UNIMPLEMENTED', 'a binary cache cannot be listed');
      },
    });
    const combined = new CachedPathInfoService(new MemoryPathInfoService(), untold, 'near');
    await combined.put(INFO);
    expect(await all(combined.list())).toEqual([INFO]);
    const cached = new CachedPathInfoService(new MemoryPathInfoService(), untold, 'far');
    await expect(all(cached.list())).rejects.toThrow('cannot be listed');
  });
});
