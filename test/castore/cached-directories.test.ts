import { describe, expect, test } from 'vitest';
import { CachedDirectoryService } from '../../src/castore/directory/cached.ts';
import { MemoryDirectoryService } from '../../src/castore/directory/memory.ts';
import type { DirectoryService } from '../../src/castore/directory/service.ts';
import { directoryOf, directoryServiceContract } from '../contract/directories.ts';
import { all, codeOf, localStore } from '../helpers/services.ts';
import { counted, except, failing } from '../helpers/services-that.ts';
import { tempDir } from '../helpers/temp.ts';

describe.each(['near', 'far'] as const)('a cache of directories where puts go %s', (puts) => {
  directoryServiceContract(async () => ({
    directories: new CachedDirectoryService(new MemoryDirectoryService(), new MemoryDirectoryService(), puts),
    close: async () => {},
  }));
});

describe('a cache of directories in a local store', () => {
  directoryServiceContract(async () => {
    const near = localStore(tempDir());
    const far = new MemoryDirectoryService();
    const directories = new CachedDirectoryService(near.directories, far, 'far');
    return { directories, close: () => near.close() };
  });
});

const LEAF = directoryOf({ leaf: 'x' });
const LEFT = directoryOf({ a: LEAF, l: '1' });
const RIGHT = directoryOf({ b: LEAF, left: LEFT });
const ROOT = directoryOf({ left: LEFT, right: RIGHT, top: LEAF });
const TREE = [ROOT, LEFT, RIGHT, LEAF];

async function cache(near: DirectoryService = new MemoryDirectoryService()) {
  const memory = new MemoryDirectoryService();
  for (const directory of TREE) await memory.put(directory);
  // As an object store has them: by the root alone.
  const byRoot = except<DirectoryService>(memory, {
    get: () => Promise.reject(new Error('only whole closures can be had')),
    getRecursive: (digest) => memory.getRecursive(digest.equals(ROOT.digest) ? digest : LEAF.digest),
  });
  const { service: far, calls } = counted(byRoot);
  return { directories: new CachedDirectoryService(near, far, 'far'), near, calls };
}

const digests = (list: { digest: { hex: string } }[]) => list.map(({ digest }) => digest.hex).sort();

describe('a cache of directories', () => {
  test('fetches a closure once, whoever asks for it and however often', async () => {
    const { directories, calls } = await cache();
    const closures = await Promise.all(
      Array.from({ length: 10 }, () => all(directories.getRecursive(ROOT.digest))),
    );
    for (const closure of closures) expect(digests(closure)).toEqual(digests(TREE));
    for (const { digest } of TREE) expect((await directories.get(digest))?.digest.hex).toBe(digest.hex);
    expect(calls).toEqual({ getRecursive: 1 });
  });

  test('puts a closure near in an order in which nothing refers to what is not there', async () => {
    const inner = new MemoryDirectoryService();
    const near = except<DirectoryService>(inner, {
      put: async (directory) => {
        for (const { digest } of directory.children()) expect(await inner.get(digest)).toBeDefined();
        await inner.put(directory);
      },
    });
    const { directories } = await cache(near);
    await directories.get(ROOT.digest);
    for (const { digest } of TREE) expect(await inner.get(digest)).toBeDefined();
  });

  test('fetches the closure again when near has only a part of it', async () => {
    const near = new MemoryDirectoryService();
    await near.put(ROOT);
    const { directories } = await cache(near);
    expect(digests(await all(directories.getRecursive(ROOT.digest)))).toEqual(digests(TREE));
  });

  test.each([
    ['full', failing<DirectoryService>(new MemoryDirectoryService(), 'put', 'flush')],
    ['broken', failing<DirectoryService>(new MemoryDirectoryService())],
  ])('gives everything, also by itself, when near is %s', async (_, near) => {
    const { directories, calls } = await cache(near);
    expect(digests(await all(directories.getRecursive(ROOT.digest)))).toEqual(digests(TREE));
    for (const { digest } of TREE) expect((await directories.get(digest))?.digest.hex).toBe(digest.hex);
    expect(calls).toEqual({ getRecursive: 1 });
  });

  test('passes on what far fails with', async () => {
    const far = failing<DirectoryService>(new MemoryDirectoryService(), 'put');
    const broken = except(far, { getRecursive: () => failingStream() });
    const directories = new CachedDirectoryService(new MemoryDirectoryService(), broken, 'far');
    await expect(directories.get(ROOT.digest)).rejects.toThrow('no network');
    expect(await codeOf(directories.put(ROOT))).toBe('NO_SPACE');
  });
});

// biome-ignore lint/correctness/useYield: it fails before it gives anything
async function* failingStream(): AsyncGenerator<never> {
  throw new Error('no network');
}
