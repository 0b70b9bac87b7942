import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ObjectStore } from '../../src/castore/objects/object-store.ts';
import { importStorePath } from '../../src/store/moving/import.ts';
import { LooseDirectories, storeAmong } from '../helpers/objects.ts';
import { randomBytes } from '../helpers/random.ts';
import { all, checkComplete, codeOf } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { generateTree, writeTree } from '../helpers/trees.ts';
import { blobServiceContract } from './blobs.ts';
import { directoryServiceContract } from './directories.ts';
import { pathInfo, pathInfoServiceContract } from './path-infos.ts';

const LIMIT = 1 << 24;

/** What every store of objects does. */
export function objectStoreContract(open: () => Promise<ObjectStore>): void {
  describe('as a store of objects', () => {
    let objects: ObjectStore;
    const text = async (key: string) => {
      const object = await objects.get(key, LIMIT);
      return object && Buffer.from(object.bytes).toString();
    };
    const put = (key: string, contents: string) => objects.put(key, Buffer.from(contents), 'absent');

    beforeAll(async () => {
      objects = await open();
    });
    afterAll(() => objects.close());

    test('knows nothing of a key that was never put', async () => {
      expect(await objects.get('never/put', LIMIT)).toBeUndefined();
      expect(await objects.facts('never/put')).toBeUndefined();
      expect(await all(objects.list('never/'))).toEqual([]);
    });

    test.each([0, 1, 100_000, 3_000_000])('gives back %i bytes', async (length) => {
      const bytes = randomBytes(length, `object ${length}`);
      expect(await objects.put(`sizes/${length}`, bytes, 'absent')).toBe(true);
      const facts = await objects.facts(`sizes/${length}`);
      expect(facts?.size).toBe(length);
      expect(Math.abs(Date.now() - facts!.modified)).toBeLessThan(60_000);
      const found = await objects.get(`sizes/${length}`, length);
      expect(bytes.equals(found!.bytes)).toBe(true);
    });

    test('gives parts of an object, where it can', async () => {
      const bytes = randomBytes(100_000, 'parts');
      await objects.put('parts', bytes, 'absent');
      for (const [start, length] of [
        [0, 10],
        [1000, 64_000],
        [99_990, 10],
      ] as const) {
        const found = await objects.part?.('parts', { start, length });
        if (objects.part) expect(bytes.subarray(start, start + length).equals(found!.bytes)).toBe(true);
      }
      expect(await objects.part?.('no/parts', { start: 0, length: 1 })).toBeUndefined();
    });

    test('says DATA_LOSS for an object beyond the limit', async () => {
      await put('beyond', '1234567');
      expect(await codeOf(objects.get('beyond', 6))).toBe('DATA_LOSS');
    });

    test('puts nothing over what is there', async () => {
      expect(await put('kept', 'first')).toBe(true);
      expect(await put('kept', 'second')).toBe(false);
      expect(await text('kept')).toBe('first');
    });

    test('puts over what has the tag, and over nothing else', async () => {
      await put('tagged', 'first');
      const { tag } = (await objects.get('tagged', LIMIT))!;
      expect(await objects.put('tagged', Buffer.from('second'), { tag })).toBe(true);
      expect(await text('tagged')).toBe('second');
      expect(await objects.put('tagged', Buffer.from('third'), { tag })).toBe(false);
      expect(await objects.put('untagged', Buffer.from('third'), { tag })).toBe(false);
      expect([await text('tagged'), await objects.facts('untagged')]).toEqual(['second', undefined]);
    });

    test('lets one of many writers win', async () => {
      const won = await Promise.all(Array.from({ length: 20 }, (_, i) => put('raced', `writer ${i}`)));
      expect(won.filter(Boolean).length).toBe(1);
      expect(await text('raced')).toBe(`writer ${won.indexOf(true)}`);
    });

    test('loses no update when many writers replace what they have read', async () => {
      await put('counted', '0');
      const count = async () => {
        for (let done = false; !done; ) {
          const { bytes, tag } = (await objects.get('counted', LIMIT))!;
          const next = Buffer.from(String(Number(Buffer.from(bytes).toString()) + 1));
          done = await objects.put('counted', next, { tag });
        }
      };
      await Promise.all(
        Array.from({ length: 5 }, async () => {
          for (let i = 0; i < 4; i++) await count();
        }),
      );
      expect(await text('counted')).toBe('20');
    });

    test('lists the keys that begin so', async () => {
      const keys = ['list/a/1', 'list/a/2', 'list/ab', 'list/b', 'lists'];
      for (const key of keys) await put(key, key);
      const listed = async (prefix: string) => (await all(objects.list(prefix))).map(({ key }) => key).sort();
      expect(await listed('list/')).toEqual(keys.slice(0, 4));
      expect(await listed('list/a')).toEqual(keys.slice(0, 3));
      expect(await listed('list/a/')).toEqual(keys.slice(0, 2));
      expect(await listed('list/c')).toEqual([]);
    });

    test('lists sizes, and when objects were put last', async () => {
      await put('dated/one', '12345');
      await objects.put('dated/one', Buffer.from('1234567'), 'always');
      const [object] = await all(objects.list('dated/'));
      expect(object).toMatchObject({ key: 'dated/one', size: 7 });
      expect(await objects.facts('dated/one')).toMatchObject({ size: 7, modified: expect.any(Number) });
      expect(Math.abs(Date.now() - object!.modified)).toBeLessThan(60_000);
    });

    test('removes objects, those that are not there as well', async () => {
      const keys = Array.from({ length: 1100 }, (_, i) => `removed/${i}`);
      for (const key of keys.slice(0, 5)) await put(key, key);
      await put('removed-not', 'stays');
      await objects.remove(keys);
      expect(await all(objects.list('removed/'))).toEqual([]);
      expect(await text('removed-not')).toBe('stays');
      expect(await put('removed/0', 'again')).toBe(true);
    });

    test('does nothing for a caller who has left', async () => {
      const signal = AbortSignal.abort(new Error('left'));
      await expect(objects.get('never/put', LIMIT, signal)).rejects.toThrow('left');
      await expect(objects.put('left', Buffer.alloc(1), 'absent', signal)).rejects.toThrow('left');
      expect(await objects.facts('left')).toBeUndefined();
    });
  });
}

/** What the services over any store of objects do. */
export function objectServicesContract(open: () => Promise<ObjectStore>): void {
  const opened = async () => storeAmong(await open());
  blobServiceContract(opened);
  directoryServiceContract(async () => {
    const objects = await open();
    return { ...(await storeAmong(objects)), behind: new LooseDirectories(objects) };
  });
  pathInfoServiceContract(opened);

  test('unites the signatures of many who put the same path info at once', async () => {
    const info = pathInfo('signed');
    const signed = Array.from({ length: 6 }, (_, i) => ({
      ...info,
      signatures: [info.signatures[0]!, { name: `key-of-${i}`, data: randomBytes(64, `signed ${i}`) }],
    }));
    const writers = await Promise.all(signed.map(opened));
    const given = await Promise.all(writers.map(({ pathInfos }, i) => pathInfos.put(signed[i]!)));
    for (const [i, { signatures }] of given.entries()) {
      expect(signatures.map(({ name }) => name)).toEqual(expect.arrayContaining(['key-1', `key-of-${i}`]));
    }
    const found = await writers[0]!.pathInfos.get(info.storePath.hash);
    expect(found!.signatures.map(({ name }) => name).sort()).toEqual(
      ['key-1', ...signed.map((_, i) => `key-of-${i}`)].sort(),
    );
    await Promise.all(writers.map((writer) => writer.close()));
  });

  test('takes the same tree from two importers at the same time', async () => {
    const dir = join(tempDir(), 'tree');
    writeTree(dir, generateTree(60, 11));
    const stores = await Promise.all([opened(), opened()]);
    const [one, other] = await Promise.all(
      stores.map((store) => importStorePath(store, Buffer.from(dir), 'same')),
    );
    expect(String(one!.storePath)).toBe(String(other!.storePath));
    const third = await opened();
    await checkComplete(third, (await third.pathInfos.get(one!.storePath.hash))!);
    await Promise.all([...stores, third].map((store) => store.close()));
  });
}
