import { describe, expect, test } from 'vitest';
import { closureCache } from '../../src/castore/directory/closure-cache.ts';
import { MemoryDirectoryService } from '../../src/castore/directory/memory.ts';
import { ObjectStoreDirectoryService } from '../../src/castore/directory/object-store.ts';
import { MemoryObjectStore } from '../../src/castore/objects/memory.ts';
import { directoryOf } from '../contract/directories.ts';
import { RecordingObjects } from '../helpers/objects.ts';
import { all } from '../helpers/services.ts';

const leaf = directoryOf({ leaf: 'x' });
const middle = directoryOf({ leaf, other: 'y' });
const root = directoryOf({ middle, leaf });
const hexes = [root, leaf, middle].map(({ digest }) => digest.hex);

/** A tree among objects, and a cache before it. */
async function opened(near = new MemoryDirectoryService(), roots = [root.digest]) {
  const objects = new RecordingObjects(new MemoryObjectStore());
  const far = new ObjectStoreDirectoryService(objects);
  const putter = far.putMany();
  for (const directory of [leaf, middle, root]) await putter.add(directory);
  await putter.close();
  objects.requests.length = 0;
  const cache = closureCache(
    () => ({
      directories: near,
      roots: async function* () {
        yield* roots;
      },
    }),
    far,
  );
  const closure = async () => (await all(cache.getRecursive(root.digest))).map(({ digest }) => digest.hex);
  return { objects, near, cache, closure };
}

describe('a cache of directories before closures by root', () => {
  test('fetches a tree once for all who ask at the same time, and never again', async () => {
    const { objects, cache, closure } = await opened();
    expect(await Promise.all([closure(), closure(), cache.get(root.digest)])).toMatchObject([
      hexes,
      hexes,
      {},
    ]);
    expect(await closure()).toEqual(hexes);
    expect((await cache.get(leaf.digest))?.digest.hex).toBe(leaf.digest.hex);
    expect(objects.requests.length).toBe(1);
  });

  test('has all that is below a directory before it gives it out', async () => {
    const { near, cache } = await opened();
    for await (const _ of cache.getRecursive(root.digest)) break;
    expect((await all(near.getRecursive(root.digest))).length).toBe(3);
  });

  test('finds what others kept without all that is below it', async () => {
    for (const kept of [[root], [root, middle], [middle]]) {
      for (const wanted of [middle, leaf]) {
        const near = new MemoryDirectoryService();
        for (const directory of kept) await near.put(directory);
        const { cache } = await opened(near);
        const found = await all(cache.getRecursive(wanted.digest));
        expect(found[0]?.digest.hex).toBe(wanted.digest.hex);
        expect(found.length).toBe(wanted === leaf ? 1 : 2);
      }
    }
  });

  test('finds it below what was asked for, too', async () => {
    const near = new MemoryDirectoryService();
    await near.put(root);
    const { cache, closure } = await opened(near, []);
    expect((await cache.get(root.digest))?.digest.hex).toBe(root.digest.hex);
    expect((await cache.get(middle.digest))?.digest.hex).toBe(middle.digest.hex);
    expect(await closure()).toEqual(hexes);
  });

  test('serves trees though nothing can be kept', async () => {
    const full = new MemoryDirectoryService();
    full.put = async () => {
      throw new Error('the disk is full');
    };
    const { cache, closure } = await opened(full);
    expect(await closure()).toEqual(hexes);
    for (const { digest } of [root, middle, leaf]) {
      expect((await cache.get(digest))?.digest.hex).toBe(digest.hex);
    }
  });
});
