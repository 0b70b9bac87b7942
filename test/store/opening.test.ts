import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { databasePath } from '../../src/castore/local/database.ts';
import { bytesLacking } from '../../src/castore/local/database-pages.ts';
import { upgradeStore } from '../../src/castore/local/format.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import { tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { randomBytes, randomNumbers, SEED } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree, writeTree } from '../helpers/trees.ts';

const PAGE = 4096;

async function imported(): Promise<{ dir: string; store: string; tree: string }> {
  const dir = join(tempDir(), 'store');
  const tree = join(tempDir(), 'tree');
  writeTree(tree, directory({ tree: generateTree(200, 1), large: file(randomBytes(300_000, 'large')) }));
  const store = `local://${dir}`;
  const { status, stderr } = await tvixStore(['import', '--store', store, tree]);
  expect(status, stderr).toBe(0);
  return { dir, store, tree };
}

/** Commands of every kind: those that read, that write, that delete, and that repair. */
function commands(store: string, tree: string): string[][] {
  const mnt = tempDir();
  return [
    ['ls'],
    ['import', tree],
    ['gc'],
    ['gc', '--dry-run'],
    ['stats'],
    ['fsck'],
    ['fsck', '--repair'],
    ['verify', '--all'],
    ['root', 'list'],
    ['copy', '--all', '--to', 'memory://'],
    ['daemon', '-l', '127.0.0.1:0'],
    ['mount', mnt],
  ].map((command) => [...command, '--store', store]);
}

const bytesOf = (dir: string) => readFileSync(databasePath(dir));
const contentsOf = (dir: string) => readdirSync(join(dir, 'chunks'), { recursive: true }).length;

async function setFormat(dir: string, format: string): Promise<void> {
  const local = LocalStore.open(dir, 'store');
  await local.env.table('meta').put(Buffer.from('format'), Buffer.from(format));
  await local.env.flushed();
  await local.close();
}

test('a store of a newer format is refused by every command, and stays as it is', async () => {
  const { dir, store, tree } = await imported();
  const local = LocalStore.open(dir, 'store');
  // A table, and rows of a known one, that only the newer program understands.
  await local.env.table('new-table').put(Buffer.from('key'), Buffer.from('value'));
  await local.env.chunks.put(randomBytes(40, 'new key'), Buffer.from('new row'));
  await local.close();
  await setFormat(dir, '2');
  const before = bytesOf(dir);
  for (const args of commands(store, tree)) {
    const { status, stderr } = await tvixStore(args);
    expect([args[0], status, stderr]).toEqual([
      args[0],
      1,
      expect.stringContaining('has format 2, this program knows 1'),
    ]);
  }
  expect((await tvixStore(['upgrade', '--store', store])).stderr).toContain(
    'use the version of tvix-store that made it',
  );
  expect(bytesOf(dir).equals(before)).toBe(true);
});

describe('the way to the next format', () => {
  /** A made-up one, whose rows of roots end in another byte. */
  const upgrades = [
    {
      to: 2,
      run(
        table: (name: string) => {
          rows(): Iterable<{ key: Buffer; value: Buffer }>;
          putSync(key: Buffer, value: Buffer): void;
        },
      ) {
        const infos = table('pathinfo');
        for (const { key, value } of [...infos.rows()])
          infos.putSync(key, Buffer.concat([value, Buffer.of(7)]));
      },
    },
  ];
  const rows = (dir: string) => {
    const local = LocalStore.open(dir);
    const values = [...local.env.table('pathinfo').rows()].map(({ value }) => value);
    return local.close().then(() => values);
  };

  test('is taken as a whole', async () => {
    const { dir, store } = await imported();
    const before = await rows(dir);
    expect(await upgradeStore(dir, upgrades)).toBe(1);
    expect((await tvixStore(['ls', '--store', store])).stderr).toContain('has format 2');
    await upgradeStore(dir, [...upgrades, { to: 3, run: () => {} }]);
    expect((await tvixStore(['ls', '--store', store])).stderr).toContain('has format 3');
    expect(readdirSync(dir).sort()).not.toContain('store.lmdb.upgrade');
    await upgradeStore(dir, [
      { to: 4, run: (table) => table('meta').putSync(Buffer.from('seen'), Buffer.of(1)) },
    ]);
    expect(before).toHaveLength(1);
  });

  test('is not taken in part', async () => {
    const { dir } = await imported();
    const before = await rows(dir);
    const failing = [
      ...upgrades,
      {
        to: 3,
        run: () => {
          throw new Error('no further');
        },
      },
    ];
    await expect(upgradeStore(dir, failing)).rejects.toThrow('no further');
    expect(await rows(dir)).toEqual(before);
  });

  test('is not taken while somebody has the store open', async () => {
    const { dir, store } = await imported();
    const daemon = await startDaemon(store);
    const refused = await tvixStore(['upgrade', '--store', store]);
    expect([refused.status, refused.stderr]).toEqual([
      1,
      expect.stringContaining(`stop process ${daemon.child.pid}`),
    ]);
    expect(await daemon.stop()).toBe(0);
    const { status, stdout } = await tvixStore(['upgrade', '--store', store]);
    expect([status, stdout]).toEqual([0, `the store in ${dir} has format 1 already\n`]);
  });
});

describe('a database that was cut', () => {
  test.each([
    ['to a half', (size: number) => size / 2],
    ['within its first pages', () => 3 * PAGE],
    ['within a page of its roots', () => PAGE],
    ['to some bytes', () => 100],
  ])('%s is refused with the way out', async (_, to) => {
    const { dir, store, tree } = await imported();
    truncateSync(databasePath(dir), Math.floor(to(statSync(databasePath(dir)).size)));
    for (const args of commands(store, tree).filter(([command]) => command !== 'fsck')) {
      const { status, stdout, stderr } = await tvixStore(args);
      expect([args[0], status, stdout]).toEqual([args[0], 1, '']);
      expect(stderr).toMatch(/^error: .*(has been cut|is not an LMDB database)/);
    }
  });

  test('is found by its pages in use, whatever was written and deleted before', async () => {
    const { dir } = await imported();
    const random = randomNumbers(SEED);
    const local = LocalStore.open(dir, 'store');
    const table = local.env.table('narinfo-lines');
    const key = () => Buffer.of(random() * 60);
    for (let round = 0; round < 100; round++) {
      local.env.transaction(() => {
        for (let i = 0; i < 30; i++)
          table.putSync(key(), Buffer.alloc(random() * (random() < 0.2 ? 60_000 : 500)));
        for (let i = 0; i < 40; i++) table.removeSync(key());
      });
      expect(bytesLacking(databasePath(dir)), `TEST_SEED=${SEED}, round ${round}`).toBeUndefined();
    }
    await local.close();
  });

  test('of which nothing can be read is left to a backup', async () => {
    const { dir, store } = await imported();
    truncateSync(databasePath(dir), 3 * PAGE);
    const { status, stderr } = await tvixStore(['fsck', '--repair', '--store', store]);
    expect([status, stderr]).toEqual([1, expect.stringContaining('put it back from a backup')]);
  });
});

describe.each([
  ['missing', (path: string) => rmSync(path)],
  ['empty', (path: string) => truncateSync(path)],
  ['new', (path: string) => copyFileSync(join(path, '../../new/store.lmdb'), path)],
])('a database that is %s beside contents', (_, spoil) => {
  test('is refused, and the contents stay', async () => {
    const { dir, store, tree } = await imported();
    // What LMDB leaves when it is killed at once.
    if (spoil.toString().includes('copyFile')) {
      const made = join(dir, '../new');
      const local = LocalStore.open(made, 'store');
      local.env.transaction(() => local.env.table('meta').removeSync(Buffer.from('format')));
      await local.close();
    }
    for (const name of [databasePath(dir), `${databasePath(dir)}-lock`])
      if (existsSync(name) && name.endsWith('-lock')) rmSync(name);
    spoil(databasePath(dir));
    const before = contentsOf(dir);
    expect(before).toBeGreaterThan(2);
    for (const args of commands(store, tree)) {
      const { status, stderr } = await tvixStore(args);
      expect([args.join(' '), status]).toEqual([args.join(' '), 1]);
      if (args[0] !== 'fsck') expect(stderr).toContain('is missing or empty, but there are contents in');
    }
    expect(contentsOf(dir)).toBe(before);
  });
});
