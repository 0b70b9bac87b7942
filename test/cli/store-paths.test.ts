import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { inProcess } from '../helpers/in-process.ts';
import { tempDir } from '../helpers/temp.ts';

const dir = tempDir();
const store = `local://${dir}/store`;
let path = '';
let other = '';

async function lines(...args: string[]): Promise<string[]> {
  const { status, stdout, stderr } = await inProcess([...args, '--store', store]);
  expect([status, stderr.replace(/^info: .*\n/gm, '')]).toEqual([0, '']);
  return stdout.trimEnd().split('\n');
}

beforeAll(async () => {
  mkdirSync(join(dir, 'out'));
  writeFileSync(join(dir, 'file'), 'contents');
  writeFileSync(join(dir, 'other'), 'other');
  await inProcess(['key', 'generate', '--file', `${dir}/key`, 'key-1']);
  [path, other] = (await lines('import', join(dir, 'file'), join(dir, 'other'))) as [string, string];
});

const BASE_AT = '/nix/store/'.length;
const HASH_END = BASE_AT + 32;

describe.each([
  ['/nix/store/HASH-NAME', () => path],
  ['/nix/store/HASH-NAME/', () => `${path}/`],
  ['HASH-NAME', () => path.slice(BASE_AT)],
  ['HASH', () => path.slice(BASE_AT, HASH_END)],
])('a store path as %s', (_, form) => {
  test('is taken by every command that takes one', async () => {
    expect(await lines('ls', form())).toEqual([path.slice(BASE_AT)]);
    expect(await lines('cat', form())).toEqual(['contents']);
    expect((await lines('path-info', form()))[0]).toBe(`StorePath: ${path}`);
    expect((await lines('nix-db', form()))[0]).toBe(path);
    expect((await lines('nar', 'ls', form()))[0]).toContain('"regular"');
    expect(await lines('verify', form())).toEqual(['1 store paths verified, all good']);
    expect(await lines('realise', form(), `${dir}/out`)).toEqual([`${dir}/out/${path.slice(BASE_AT)}`]);
    expect(await lines('copy', '--to', 'memory:', form())).toEqual([path]);
    await lines('root', 'add', 'name', form());
    expect(await lines('root', 'list')).toEqual([`name\t${path}`]);
  });
});

test('a root that is added by a hash alone keeps the path from gc', async () => {
  await lines('root', 'add', 'kept', other.slice(BASE_AT, HASH_END));
  await lines('gc', '--older-than', '0');
  expect(await lines('ls')).toContain(other.slice(BASE_AT));
});

test('--all means every store path of the store, to every command that has it', async () => {
  const all = [path, other].sort();
  const bases = all.map((one) => one.slice(BASE_AT));
  expect((await lines('ls', '--all')).sort()).toEqual(bases);
  expect((await lines('path-info', '--all')).sort()).toEqual(all);
  expect(Object.keys(JSON.parse((await lines('path-info', '--all', '--json')).join(''))).sort()).toEqual(all);
  expect(await lines('verify', '--all')).toEqual(['2 store paths verified, all good']);
  expect((await lines('copy', '--all', '--to', 'memory:')).sort()).toEqual(all);
  expect((await lines('sign', '--all', '--key-file', `${dir}/key`)).sort()).toEqual(all);
});
