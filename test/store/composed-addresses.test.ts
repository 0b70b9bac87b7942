import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { KINDS } from '../../src/store/open/kinds.ts';
import { openStore } from '../../src/store/open/open-store.ts';
import { SCHEMES } from '../../src/store/open/schemes.ts';
import { UsageError } from '../../src/util/errors.ts';
import { takeParameter } from '../../src/util/url.ts';
import { pathInfo } from '../contract/path-infos.ts';
import { all, localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

describe('addresses of two stores', () => {
  const openAt = (address: string) =>
    openStore({ blobs: address, directories: address, pathInfos: address, cacheDir: '/nowhere' }, 'write');

  test('may have plus signs, as schemes and keys do', () => {
    const url = new URL('cache://?near=local:///a%20b%26c&far=nix+https://x?k=1+2');
    expect(takeParameter(url, 'far')).toBe('nix+https://x?k=1+2');
    expect(takeParameter(url, 'near')).toBe('local:///a b&c');
    expect(takeParameter(url, 'near')).toBeUndefined();
    expect(url.href).toBe('cache://');
  });

  test('near and far make a store', async () => {
    const dir = tempDir();
    const address = `cache://?near=local://${dir}/near&far=local://${dir}/far`;
    const store = await openAt(address);
    await store.pathInfos.put(pathInfo('at-addresses'));
    expect(await all(store.pathInfos.list())).toHaveLength(1);
    await store.close();
  });

  test.each([
    ['cache://?near=memory://', 'far is missing'],
    ['cache://?near=memory://&near=memory://&far=memory://', 'near is given twice'],
    ['cache://?near=%&far=memory://', 'near is not percent-encoded'],
    ['cache://?near=memory://&far=grpc+http://127.0.0.1/path', 'path'],
    ['cache://?near=memory://&far=memory://&size=3', 'unknown parameter "size"; allowed are near, far'],
    ['combined://here?near=memory://&far=memory://', 'a host has no meaning here'],
    ['cache://?near=memory://&far=nowhere', 'not an address: "nowhere"'],
    ['memory://?signing-key-file=/nowhere/key', 'cannot use the secret key in /nowhere/key'],
  ])('%s is refused', async (address, message) => {
    await expect(openAt(address)).rejects.toThrow(message);
  });

  test('put nothing where path infos and contents would part', async () => {
    const [near, far] = ['combined', 'cache'].map((type) => `${type}://?near=memory://&far=memory://`);
    const addresses = { blobs: near!, directories: near!, pathInfos: far!, cacheDir: '/nowhere' };
    const store = await openStore(addresses, 'write');
    await expect(store.pathInfos.put(pathInfo('mixed'))).rejects.toThrow('nothing can be put');
    await store.close();
  });

  test('make a store of what one of them keeps copies in and another is', async () => {
    const dir = tempDir();
    const shared = `local://${dir}/shared`;
    const pathInfos = `cache://?near=${shared}&far=memory://`;
    const store = await openStore(
      { blobs: shared, directories: shared, pathInfos, cacheDir: '/no' },
      'write',
    );
    await store.close();
    const opened = localStore(join(dir, 'shared'));
    expect(opened.local.env.kind).toBe('store');
    await opened.close();
  });
});

describe('a store that has path infos alone', () => {
  const openWith = (pathInfos: string, rest = 'memory://') =>
    openStore({ blobs: rest, directories: rest, pathInfos, cacheDir: '/nowhere' }, 'write');

  test('is named by an address, also within another', async () => {
    const store = await openWith('cache://?near=lru://?capacity=1&far=memory://');
    const infos = [pathInfo('one'), pathInfo('other')];
    for (const info of infos) await store.pathInfos.put(info);
    for (const info of infos) expect(await store.pathInfos.get(info.storePath.hash)).toEqual(info);
    await store.close();
    const forgetful = await openWith('lru://?capacity=1');
    for (const info of infos) await forgetful.pathInfos.put(info);
    expect(await all(forgetful.pathInfos.list())).toEqual([infos[1]]);
    await forgetful.close();
  });

  test.each([
    ['lru://?capacity=3', 'lru://?capacity=3 has no blobs, only path infos'],
    ['cache://?near=lru://?capacity=3&far=memory://', 'lru://?capacity=3 has no blobs, only path infos'],
    [
      'nix+file:///a?blob_service=memory://&directory_service=memory://',
      /^nix\+file:.* has no blobs, only path infos$/,
    ],
  ])('is refused where another service is wanted: %s', async (address, message) => {
    await expect(openWith('memory://', address)).rejects.toThrow(UsageError);
    await expect(openWith('memory://', address)).rejects.toThrow(message);
  });

  test.each([
    ['lru://', 'lru://: capacity is missing; want lru://?capacity=N'],
    ['lru://?capacity=many', 'lru://?capacity=many: capacity: it must be a whole number above 0'],
    ['lru://?capacity=3&size=2', 'unknown parameter "size"; allowed are capacity'],
    ['keyfile-signing://?inner=memory://&keyfile=key', 'keyfile: it must be an absolute path'],
    ['nix+file:///a?blob_service=memory://', 'blob_service and directory_service go together'],
  ])('is refused when its address is wrong: %s', async (address, message) => {
    await expect(openWith(address)).rejects.toThrow(message);
  });
});

test('every kind of store has an address, and every address a kind', () => {
  const types = Object.values(SCHEMES).map(({ type }) => type);
  expect(new Set(types)).toEqual(new Set(Object.keys(KINDS)));
  for (const [scheme, { form, about }] of Object.entries(SCHEMES)) {
    expect(form.startsWith(`${scheme}://`)).toBe(true);
    expect(about).toMatch(/^\S.*\S$/);
  }
});
