import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openStore } from '../../src/store/open/open-store.ts';
import { pathInfo } from '../contract/path-infos.ts';
import { compositionFile, SECTIONS } from '../helpers/composition.ts';
import { randomBytes } from '../helpers/random.ts';
import { all, codeOf, localStore, readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const open = (text: string, use: 'read' | 'write' = 'write') =>
  openStore(
    {
      blobs: 'no',
      directories: 'no',
      pathInfos: 'no',
      cacheDir: '/nowhere',
      composition: compositionFile(text),
    },
    use,
  );

const BYTES = randomBytes(3 << 20, 'composed');
const layers = (type: string, dir: string) =>
  SECTIONS.map(
    (section) => `[${section}]
root = { type = "${type}", near = "&here", far = "there" }
here = { type = "local", path = "${dir}/near" }
there = { type = "local", path = "${dir}/far" }
`,
  ).join('');

describe('a composition', () => {
  test.each([
    ['cache', 'far'],
    ['combined', 'near'],
  ])('of type %s puts %s, reads both, and closes all of it', async (type, target) => {
    const dir = tempDir();
    const store = await open(layers(type, dir));
    const { digest } = await store.blobs.put(BYTES);
    await store.blobs.flush();
    await store.pathInfos.put(pathInfo('composed'));
    expect((await readBlob(store, digest))?.equals(BYTES)).toBe(true);
    await store.close();
    const there = localStore(join(dir, target));
    expect((await readBlob(there, digest))?.equals(BYTES)).toBe(true);
    expect(await all(there.pathInfos.list())).toHaveLength(1);
    await there.close();
    // What was read has been kept where it was not put.
    const near = localStore(join(dir, 'near'));
    expect((await readBlob(near, digest))?.equals(BYTES)).toBe(true);
    expect(near.local.env.kind).toBe(type === 'cache' ? 'cache' : 'store');
    await near.close();
  });

  test.each(['cache', 'combined'])(
    'of type %s makes what is near, also when it is only read',
    async (type) => {
      const dir = tempDir();
      await localStore(join(dir, 'far')).close();
      const store = await open(layers(type, dir), 'read');
      expect(await all(store.pathInfos.list())).toEqual([]);
      await store.close();
      const near = localStore(join(dir, 'near'));
      expect(near.local.env.kind).toBe(type === 'cache' ? 'cache' : 'store');
      await near.close();
    },
  );

  test('has every instance once, whoever names it', async () => {
    const store = await open(`
[pathinfoservices]
default = { type = "combined", near = "shared", far = "behind" }
behind = { type = "cache", local = "lru", remote = "&shared" }
lru = { type = "lru", capacity = 10 }
shared = { type = "memory" }
`);
    const info = pathInfo('shared');
    await store.pathInfos.put(info);
    // It is listed near; far, which is the same in the end, it is known to be there already.
    expect(await all(store.pathInfos.list())).toEqual([info]);
    await store.close();
  });

  test('of local services that are all in one directory is that local store', async () => {
    const dir = tempDir();
    const store = await open(
      SECTIONS.map((section) => `${section}.root = { type = "local", path = "${dir}/a b" }\n`).join(''),
    );
    expect(store.local?.env.dir).toBe(join(dir, 'a b'));
    await store.close();
  });

  test('takes addresses in place of names', async () => {
    const store = await open(
      'blobservices.root = { type = "cache", near = "memory://", far = "cache://?near=memory://&far=memory://" }',
    );
    const { digest } = await store.blobs.put(BYTES);
    expect((await readBlob(store, digest))?.equals(BYTES)).toBe(true);
    await store.close();
  });

  test('opens nothing when it is wrong', async () => {
    const dir = join(tempDir(), 'store');
    const text = `[blobservices]\nroot = { type = "local", path = "${dir}" }\na = { type = "cache", near = "a", far = "a" }`;
    expect(await codeOf(open(text))).toBe('INVALID_ARGUMENT');
    expect(existsSync(dir)).toBe(false);
  });

  test('takes no path info whose contents would be put elsewhere', async () => {
    const mixed = (type: string) => `{ type = "${type}", near = "memory://", far = "memory://" }\n`;
    const store = await open(
      `blobservices.root = ${mixed('combined')}pathinfoservices.root = ${mixed('cache')}`,
    );
    await expect(store.pathInfos.put(pathInfo('mixed'))).rejects.toThrow('nothing can be put');
    expect(await all(store.pathInfos.list())).toEqual([]);
    await store.close();
  });
});
