import { mkdirSync, writeFileSync } from 'node:fs';
import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { DRIVERS, mount } from '../helpers/mount.ts';
import { tempDir } from '../helpers/temp.ts';

/** Entries whose encoding is large enough to be decoded in a thread of its own. */
const ENTRIES = 12_000;
const nameOf = (number: number) => `a-name-that-is-rather-long-so-that-few-entries-suffice-${number}`;
const NAMES = Array.from({ length: ENTRIES }, (_, i) => nameOf(i)).sort();

let store: string;
let name: string;

beforeAll(async () => {
  store = `local://${tempDir()}/store`;
  const tree = join(tempDir(), 'tree');
  for (const inner of ['.', 'inner']) {
    mkdirSync(join(tree, inner), { recursive: true });
    for (const file of NAMES) writeFileSync(join(tree, inner, file), '');
  }
  writeFileSync(join(tree, 'inner', nameOf(7)), 'seven');
  const { stdout } = await tvixStore(['import', '--store', store, tree]);
  name = stdout.trim().slice('/nix/store/'.length);
});

/** Looks at both directories, several readers at once. */
async function look(root: string): Promise<void> {
  const lists = await Promise.all(['.', 'inner', '.', 'inner'].map((inner) => readdir(join(root, inner))));
  expect(lists[0]!.filter((file) => file !== 'inner').sort()).toEqual(NAMES);
  for (const list of lists.slice(2)) expect(list.length).toBeGreaterThanOrEqual(ENTRIES);
  expect(lists[1]!.sort()).toEqual(NAMES);
  const inodes = new Set<bigint>();
  for (const number of [0, 6000, ENTRIES - 1]) {
    inodes.add((await lstat(join(root, 'inner', nameOf(number)), { bigint: true })).ino);
    inodes.add((await lstat(join(root, nameOf(number)), { bigint: true })).ino);
  }
  expect(inodes.size).toBe(6);
  expect(await readFile(join(root, 'inner', nameOf(7)), 'utf8')).toBe('seven');
  await expect(lstat(join(root, 'inner', nameOf(ENTRIES)))).rejects.toMatchObject({ code: 'ENOENT' });
}

describe('a large directory', () => {
  test.each(DRIVERS)('of a local store, driver %s', async (driver) => {
    const mounted = await mount(['--store', store, '--driver', driver]);
    await look(join(mounted.dir, name));
    expect((await mounted.stop()).log).not.toContain('error');
  });

  test('of a far store, served by two threads', async () => {
    const daemon = await startDaemon(store);
    const cache = join(tempDir(), 'cache');
    const mounted = await mount(['--store', daemon.url, '--cache', cache, '--readers', '2']);
    await look(join(mounted.dir, name));
    expect((await mounted.stop()).log).not.toContain('error');
    // Again, from the cache.
    await daemon.stop();
    const offline = await mount(['--store', daemon.url, '--cache', cache, '--offline', '--inodes', '32']);
    await look(join(offline.dir, name));
    const { ino } = await lstat(join(offline.dir, name, nameOf(1)), { bigint: true });
    expect(ino).toBeLessThan(2n ** 32n);
    expect(ino).toBeGreaterThan(1n);
  });
});
