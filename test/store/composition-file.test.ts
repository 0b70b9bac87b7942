import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readComposition } from '../../src/store/open/composition/check.ts';
import type { Located } from '../../src/store/open/composition/parse.ts';
import { parseToml } from '../../src/store/open/composition/parse.ts';
import { UsageError } from '../../src/util/errors.ts';
import { forAll } from '../helpers/arbitraries.ts';
import { compositionFile, MEMORY } from '../helpers/composition.ts';
import { tempDir } from '../helpers/temp.ts';

/** What reading a file is refused with, without the folder. */
function refusal(text: string, complete = true): string {
  const file = compositionFile(text, complete);
  try {
    readComposition(file);
  } catch (error) {
    return (error as Error).message.replaceAll(file, 'FILE');
  }
  throw new Error('it was not refused');
}

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
      'FILE:1: blobservices.root: type is missing; allowed are memory, local, grpc, objectstore, cache, combined, replicas, mirrored, nix, nix-store',
    ],
    [
      'an unknown type',
      '[blobservices.root]\n\ntype = "lru"',
      'FILE:3: blobservices.root.type: unknown type "lru"; allowed are memory, local, grpc, objectstore, cache, combined, replicas, mirrored, nix, nix-store',
    ],
    [
      'a type of another kind of thing',
      '[pathinfoservices.root]\ntype = 1979-05-27',
      'FILE:2: pathinfoservices.root.type: it must be a text in quotes; allowed are memory, local, grpc, objectstore, cache, ' +
        'combined, replicas, lru, nix, nix-store, keyfile-signing',
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
