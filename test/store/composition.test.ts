import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readComposition } from '../../src/store/open/composition/check.ts';
import type { Located } from '../../src/store/open/composition/parse.ts';
import { parseToml } from '../../src/store/open/composition/parse.ts';
import { KINDS } from '../../src/store/open/kinds.ts';
import { openStore } from '../../src/store/open/open-store.ts';
import { SCHEMES } from '../../src/store/open/schemes.ts';
import { UsageError } from '../../src/util/errors.ts';
import { takeParameter } from '../../src/util/url.ts';
import { pathInfo } from '../contract/path-infos.ts';
import { forAll } from '../helpers/arbitraries.ts';
import { randomBytes } from '../helpers/random.ts';
import { all, codeOf, localStore, readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

/** What stands in every file here, of sections that a test does not give itself. */
const MEMORY = (section: string) => `[${section}.root]\ntype = "memory"\n`;
const SECTIONS = ['blobservices', 'directoryservices', 'pathinfoservices'];

function fileOf(text: string, complete = true): string {
  const rest = SECTIONS.filter((section) => complete && !text.includes(section)).map(MEMORY);
  const file = join(tempDir(), 'store.toml');
  writeFileSync(file, `${text}\n${rest.join('')}`);
  return file;
}

/** What reading a file is refused with, without the folder. */
function refusal(text: string, complete = true): string {
  const file = fileOf(text, complete);
  try {
    readComposition(file);
  } catch (error) {
    return (error as Error).message.replaceAll(file, 'FILE');
  }
  throw new Error('it was not refused');
}

const open = (text: string, use: 'read' | 'write' = 'write') =>
  openStore(
    { blobs: 'no', directories: 'no', pathInfos: 'no', cacheDir: '/nowhere', composition: fileOf(text) },
    use,
  );

describe('a composition file is refused, by line and key, for', () => {
  test.each([
    ['what is not TOML', '[blobservices.root]\ntype = "local', 'FILE:2:14: unterminated string constant'],
    [
      'a key twice',
      '[blobservices.root]\ntype = "memory"\ntype = "local"',
      'FILE:3:1: defining a key multiple times is invalid',
    ],
    ['a list of tables', '[[blobservices]]', 'FILE:1: a list of tables has no meaning here'],
    [
      'an unknown section',
      'blobservice.root.type = "memory"',
      'FILE:1: blobservice: unknown section; allowed are blobservices, directoryservices, pathinfoservices',
    ],
    ['a section that is none', 'blobservices = 3', 'FILE:1: blobservices: it must be a table of services'],
    [
      'an instance that is none',
      'blobservices.root = "memory"',
      'FILE:1: blobservices.root: it must be a table with a type',
    ],
    [
      'a missing type',
      '[blobservices.root]\nurl = "x"',
      'FILE:1: blobservices.root: type is missing; allowed are memory, local, grpc, objectstore, cache, combined, nix',
    ],
    [
      'an unknown type',
      '[blobservices.root]\n\ntype = "lru"',
      'FILE:3: blobservices.root.type: unknown type "lru"; allowed are memory, local, grpc, objectstore, cache, combined, nix',
    ],
    [
      'a type of another kind of thing',
      '[pathinfoservices.root]\ntype = 1979-05-27',
      'FILE:2: pathinfoservices.root.type: it must be a text in quotes; allowed are memory, local, grpc, objectstore, cache, ' +
        'combined, lru, nix, keyfile-signing',
    ],
    [
      'an unknown key',
      '[blobservices.root]\ntype = "local"\npath = "/a"\npaht = "/b"',
      'FILE:4: blobservices.root.paht: unknown key; allowed are path',
    ],
    [
      'a key where there are none',
      '[blobservices.root]\ntype = "memory"\nsize = 3',
      'FILE:3: blobservices.root.size: unknown key; none are allowed',
    ],
    [
      'a missing key',
      '[blobservices.root]\ntype = "cache"\nnear = "a"',
      'FILE:1: blobservices.root: far is missing, which cache needs',
    ],
    [
      'both spellings of a key',
      '[blobservices.root]\ntype = "cache"\nnear = "a"\nlocal = "a"',
      'FILE:4: blobservices.root.local: it is given twice: it is another spelling of near',
    ],
    [
      'a relative path',
      '[blobservices.root]\ntype = "local"\npath = "store"',
      'FILE:3: blobservices.root.path: it must be an absolute path in quotes',
    ],
    [
      'a number that is none',
      '[pathinfoservices.root]\ntype = "lru"\ncapacity = 0',
      'FILE:3: pathinfoservices.root.capacity: it must be a whole number above 0',
    ],
    [
      'an empty text',
      '[blobservices.root]\ntype = "grpc"\nurl = ""',
      'FILE:3: blobservices.root.url: it must be a text in quotes, and not empty',
    ],
    [
      'an address that is none',
      '[blobservices.root]\ntype = "grpc"\n\nurl = "localhost"',
      'FILE:4: blobservices.root.url: not an address: "localhost"; want a URL such as local:///var/lib/tvix-store',
    ],
    [
      'an address of an unknown kind in place of a name',
      '[blobservices.root]\ntype = "cache"\nnear = "memory://"\nfar = "redb:///a"',
      /^FILE:4: blobservices\.root\.far: unknown kind of store in "redb:\/\/\/a"; known are local:\/\/, /,
    ],
    [
      'an address of another kind than the type',
      '[blobservices.root]\ntype = "grpc"\nurl = "local:///a"',
      'FILE:3: blobservices.root.url: want grpc+http://, grpc+https://, grpc+unix://, not "local:///a"',
    ],
    [
      'an address that signs, below a type that does not',
      '[blobservices.root]\ntype = "grpc"\nurl = "grpc+http://host?signing-key-file=/key"',
      'FILE:3: blobservices.root.url: signing-key-file has no meaning here: name a keyfile-signing service instead',
    ],
    [
      'an address that is wrong within',
      '[blobservices.root]\ntype = "cache"\nnear = "memory://"\nfar = "cache://?near=memory://"',
      'FILE:4: blobservices.root.far: cache://?near=memory://: far is missing; ' +
        'want cache://?near=URL&far=URL, with %26 for each & within',
    ],
    [
      'an address of a bucket with an unknown option',
      '[blobservices.root]\ntype = "objectstore"\nobject_store_url = "s3://bucket"\nobject_store_options = { colour = "red" }',
      /^FILE:3: blobservices\.root\.object_store_url: objectstore\+s3:\/\/bucket: unknown parameter "colour"/,
    ],
    [
      'an address at which there is no such service',
      '[blobservices.root]\ntype = "cache"\nnear = "lru://?capacity=3"\nfar = "memory://"',
      'FILE:3: blobservices.root.near: lru://?capacity=3 has no blobs, only path infos',
    ],
    [
      'a binary cache that is to have what goes elsewhere',
      '[blobservices]\nroot = { type = "nix", base_url = "file:///a", blob_service = "b", directory_service = "memory://" }\n' +
        'b = { type = "memory" }',
      'FILE:2: blobservices.root: root has no blobs, only path infos',
    ],
    [
      'a name that leads nowhere',
      '[blobservices]\nroot = { type = "cache", near = "a", far = "&b" }\na = { type = "memory" }',
      'FILE:2: blobservices.root.far: there is no "b" among its kind of service; there are root, a',
    ],
    [
      'a name of another section',
      '[blobservices]\nroot = { type = "cache", near = "a", far = "a" }\n[directoryservices]\na.type = "memory"',
      'FILE:2: blobservices.root.near: there is no "a" among its kind of service; there are root',
    ],
    [
      'a circle',
      '[blobservices]\nroot = { type = "combined", near = "a", far = "a" }\na = { type = "cache", near = "b", far = "b" }\n' +
        'b = { type = "cache", near = "root", far = "root" }',
      'FILE:2: blobservices.root: it refers to itself: root -> a -> b -> root',
    ],
    [
      'a circle that nothing leads to',
      '[blobservices]\nroot = { type = "memory" }\na = { type = "cache", near = "a", far = "root" }',
      'FILE:3: blobservices.a: it refers to itself: a -> a',
    ],
    [
      'two to begin with',
      '[blobservices]\nroot = { type = "memory" }\ndefault = { type = "memory" }',
      'FILE:3: blobservices.default: default and root both name what the store consists of; keep one',
    ],
  ])('%s', (_, text, message) => {
    if (typeof message === 'string') expect(refusal(text)).toBe(message);
    else expect(refusal(text)).toMatch(message);
  });

  test('a section without one to begin with', () => {
    const text = MEMORY('blobservices') + MEMORY('directoryservices');
    const message = 'FILE: pathinfoservices has no root: call one of its instances root (or default)';
    expect(refusal(text, false)).toBe(message);
    expect(refusal(`${text}[pathinfoservices.other]\ntype = "memory"`, false)).toBe(message);
  });

  test('not being there', () => {
    const file = join(tempDir(), 'missing.toml');
    expect(() => readComposition(file)).toThrow('cannot read the composition');
  });
});

const BYTES = randomBytes(3 << 20, 'composed');
const layers = (type: string, dir: string) =>
  SECTIONS.map(
    (section) => `[${section}]
root = { type = "${type}", near = "&here", far = "there" }
here = { type = "local", path = "${dir}/near" }
there = { type = "local", path = "${dir}/far" }
`,
  ).join('');

describe('reading TOML', () => {
  test('gives what was written, however it was written', () => {
    const key = fc.stringMatching(/^[a-zA-Z0-9_-]{1,5}$/);
    const leaf = fc.oneof(fc.string({ maxLength: 8 }), fc.integer(), fc.boolean());
    const inline = fc.dictionary(key, leaf, { maxKeys: 3 });
    const instance = fc.dictionary(key, fc.oneof(leaf, inline, fc.array(leaf, { maxLength: 3 })), {
      maxKeys: 4,
    });
    forAll(fc.dictionary(key, instance, { maxKeys: 3, noNullPrototype: true }), (tables) => {
      const wanted = JSON.stringify(tables);
      const headed = Object.entries(tables).map(
        ([name, values]) =>
          `[${name}]\n${Object.entries(values)
            .map(([at, value]) => `${at} = ${toml(value)}\n`)
            .join('')}`,
      );
      const dotted = Object.entries(tables).flatMap(([name, values]) =>
        Object.entries(values).length === 0
          ? [`${name} = {}\n`]
          : Object.entries(values).map(([at, value]) => `"${name}".${at} = ${toml(value)}\n`),
      );
      for (const text of [headed.join(''), dotted.join('')]) {
        expect(JSON.stringify(plain({ line: 0, value: parseToml(text, 'FILE') }))).toBe(wanted);
      }
    });
  });

  test('refuses anything else by its place', () => {
    forAll(fc.string({ unit: fc.constantFrom(...'[]{}="\'\\\n\r\t.,#a1-_ é\0') }), (text) => {
      try {
        parseToml(text, 'FILE');
      } catch (error) {
        expect(error).toBeInstanceOf(UsageError);
        expect((error as Error).message).toMatch(/^FILE:\d+:(\d+:)? /);
      }
    });
  });
});

function toml(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(toml).join(', ')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value).replaceAll('\x7f', '\\u007f');
  return `{${Object.entries(value)
    .map(([key, one]) => `${key} = ${toml(one)}`)
    .join(', ')}}`;
}

function plain({ value }: Located): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, one]) => [key, plain(one)]));
  return Array.isArray(value) ? value.map(plain) : value;
}

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
