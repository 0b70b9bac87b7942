import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { LocalStore } from '../../src/castore/local/store.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import { UseTable } from '../../src/store/keeping/uses.ts';
import { PathInfoTable } from '../../src/store/path-info/local.ts';
import { run, startTvixStore, tvixStore } from '../helpers/cli.ts';
import { mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

const IS_ROOT = process.getuid!() === 0;
/** An ordinary user and group, of nobody in particular. */
const SERVICE = 4321;

interface Made {
  readonly dir: string;
  readonly store: string;
  readonly tree: string;
  readonly path: string;
}

async function imported(dir = join(tempDir(), 'store')): Promise<Made> {
  const tree = join(tempDir(), 'tree');
  writeTree(tree, directory({ large: file(randomBytes(300_000, 'large')), small: file('small') }));
  const store = `local://${dir}`;
  return { dir, store, tree, path: await importInto(store, tree) };
}

async function importInto(store: string, tree: string): Promise<string> {
  const { status, stdout, stderr } = await tvixStore(['import', '--store', store, tree]);
  expect(status, stderr).toBe(0);
  return stdout.trim();
}

const nameOf = (path: string) => path.slice('/nix/store/'.length);

const succeeds = async (...args: string[]) => {
  const result = await tvixStore(args);
  expect(result, args.join(' ')).toMatchObject({ status: 0 });
  return result.stdout;
};

function below(dir: string): string[] {
  return [dir, ...readdirSync(dir, { recursive: true, encoding: 'utf8' }).map((name) => join(dir, name))];
}

describe.runIf(IS_ROOT)('what root does in the store of a service', () => {
  test('leaves nothing there that is not the owner’s, nor of another mode', async () => {
    const dir = join(tempDir(), 'store');
    mkdirSync(dir);
    chownSync(dir, SERVICE, SERVICE);
    chmodSync(dir, 0o2770);
    const { store, tree, path } = await imported(dir);
    const mounted = await mount(['--store', store]);
    const commands = [
      ['gc'],
      ['fsck', '--repair'],
      ['root', 'add', 'name', path],
      ['import', tree],
      ['gc', '--dry-run'],
      ['stats'],
    ];
    const more = join(tempDir(), 'more');
    writeTree(more, file(randomBytes(200_000, 'more')));
    await importInto(store, more);
    for (const args of commands) await succeeds(...args, '--store', store);
    expect((await mounted.stop()).status).toBe(0);
    await succeeds('fsck', '--repair', '--store', store);
    for (const one of below(dir)) {
      const { uid, gid, mode } = lstatSync(one);
      expect([one, uid, gid]).toEqual([one, SERVICE, SERVICE]);
      if (lstatSync(one).isDirectory()) expect([one, mode & 0o7777]).toEqual([one, 0o2770]);
    }
  });

  test('does not keep the service from going on', async () => {
    const dir = join(tempDir(), 'store');
    mkdirSync(dir);
    chownSync(dir, SERVICE, SERVICE);
    const { store, path } = await imported(dir);
    for (const args of [['gc'], ['fsck', '--repair'], ['root', 'add', 'x', path]])
      await succeeds(...args, '--store', store);
    const tree = join(tempDir(), 'tree');
    writeTree(tree, directory({ new: file(randomBytes(400_000, 'new')) }));
    for (let at = tree; at !== '/tmp' && at !== '/'; at = join(at, '..'))
      chmodSync(at, statSync(at).mode | 0o055);
    for (let at = dir; at !== '/tmp' && at !== '/'; at = join(at, '..'))
      if (at !== dir) chmodSync(at, statSync(at).mode | 0o055);
    const asService = { uid: SERVICE, gid: SERVICE, env: { ...process.env, HOME: '/nonexistent' } };
    for (const args of [
      ['import', tree],
      ['gc', '--older-than', '0'],
      ['fsck', '--repair'],
    ]) {
      const result = await tvixStore([...args, '--store', store], asService);
      expect([args[0], result.status, result.stderr]).toEqual([args[0], 0, '']);
    }
  });
});

describe.runIf(IS_ROOT)('a store on a file system that can only be read', () => {
  test('is read by every command that reads, and what needs to write says why it cannot', async () => {
    const made = await imported();
    const target = tempDir();
    expect(await run('mount', ['--bind', '-o', 'ro', made.dir, target])).toMatchObject({ status: 0 });
    try {
      await run('mount', ['-o', 'remount,bind,ro', target]);
      const store = `local://${target}`;
      const out = tempDir();
      expect(await succeeds('ls', '--store', store)).toBe(`${nameOf(made.path)}\n`);
      expect(await succeeds('cat', '--store', store, `${made.path}/small`)).toBe('small');
      await succeeds('realise', '--store', store, made.path, out);
      await succeeds('copy', '--from', store, '--to', `local://${tempDir()}/copy`, '--all');
      await succeeds('verify', '--store', store, '--all');
      await succeeds('path-info', '--store', store, '--all');
      await succeeds('stats', '--store', store);
      await succeeds('fsck', '--store', store);
      await succeeds('root', 'list', '--store', store);
      const mounted = await mount(['--store', store]);
      const there = join(mounted.dir, made.path.slice(made.path.lastIndexOf('/') + 1));
      expect(await run('diff', ['-r', made.tree, there])).toMatchObject({ status: 0 });
      expect((await mounted.stop()).status).toBe(0);
      for (const args of [
        ['import', made.tree],
        ['gc'],
        ['root', 'add', 'x', made.path],
        ['fsck', '--repair'],
        ['daemon', '-l', '127.0.0.1:0'],
      ]) {
        const { status, stderr } = await tvixStore([...args, '--store', store]);
        expect([args[0], status]).toEqual([args[0], 1]);
        expect(stderr).toMatch(/^error: .*[Rr]ead-only file system/);
        expect(stderr.split('\n').length).toBe(2);
      }
    } finally {
      await run('umount', [target]);
    }
  });
});

test('files among the chunks that are not the store’s stay, are told of, and keep nobody from collecting', async () => {
  const { dir, store, path } = await imported();
  const chunks = join(dir, 'chunks');
  const first = join(chunks, readdirSync(chunks)[0]!);
  const second = join(first, readdirSync(first)[0]!);
  mkdirSync(join(chunks, 'backup'));
  const strays = [chunks, first, second, join(chunks, 'backup')].map((folder) => join(folder, '.nfs0000'));
  for (const stray of strays) writeFileSync(stray, 'mine');
  const name = readdirSync(second).find((one) => !one.startsWith('.'))!;
  writeFileSync(join(second, `${name}~`), 'mine');
  const { files } = JSON.parse(await succeeds('stats', '--json', '--store', store));
  expect(files.unnamed).toEqual({ files: 0, bytes: 0 });
  writeFileSync(join(second, `${name.slice(0, 64)}.orphaned`), 'a file without a row');
  const told = JSON.parse(await succeeds('stats', '--json', '--store', store)).files;
  expect([told.all.files - files.all.files, told.unnamed]).toEqual([1, { files: 1, bytes: 20 }]);
  expect(await succeeds('stats', '--store', store)).toContain(
    '20 B of it in 1 files that nothing refers to yet',
  );
  const { status, stderr } = await tvixStore(['gc', '--older-than', '0', '--store', store]);
  expect([status, stderr]).toEqual([0, expect.stringContaining('.nfs0000')]);
  for (const stray of [...strays, join(second, `${name}~`)])
    expect([stray, existsSync(stray)]).toEqual([stray, true]);
  expect(existsSync(join(second, `${name.slice(0, 64)}.orphaned`))).toBe(false);
  expect(await succeeds('ls', '--store', store)).toBe('');
  expect(path).toContain('/nix/store/');
});

test('a use that a clock which was ahead has noted counts from the next collection on', async () => {
  const { dir, store } = await imported();
  const local = LocalStore.open(dir, 'store');
  const uses = new UseTable(local.env);
  const [row] = [...uses.table.rows()];
  const real = Date.now;
  Date.now = () => real() + 400 * 86_400_000;
  try {
    local.env.transaction(() => uses.note(row!.key, 0));
  } finally {
    Date.now = real;
  }
  await local.close();
  const collect = (age: string) => tvixStore(['gc', '--store', store, '--older-than', age]);
  expect((await collect('1h')).stdout).toContain('freed 0 store paths');
  await new Promise((resolve) => setTimeout(resolve, 2100));
  expect((await collect('1s')).stdout).toContain('freed 1 store paths');
});

describe('fsck', () => {
  /** Adds a path info that refers to a path of this hash. */
  async function refer(dir: string, path: string, reference: StorePath): Promise<void> {
    const local = LocalStore.open(dir, 'store');
    const infos = new PathInfoTable(local.env);
    const info = infos.get(StorePath.parse(path.slice('/nix/store/'.length)).hash)!;
    await local.writer.row(infos.table, info.storePath.hash, infos.row({ ...info, references: [reference] }));
    await local.writer.flush();
    await local.close();
  }

  test('tells of references to what is not there, and gets them from another store', async () => {
    const other = await imported();
    const { dir, store, path } = await imported();
    const more = join(tempDir(), 'more');
    writeTree(more, file('more'));
    const wanted = await importInto(other.store, more);
    const name = wanted.slice('/nix/store/'.length);
    await refer(dir, path, StorePath.parse(name));
    const found = await tvixStore(['fsck', '--store', store]);
    expect(found.status).toBe(1);
    expect(found.stdout).toContain(`missing: ${wanted}\t${path} refers to it`);
    const alone = await tvixStore(['fsck', '--repair', '--store', store]);
    expect([alone.status, alone.stdout]).toEqual([
      1,
      expect.stringContaining('1 missing that others refer to'),
    ]);
    expect(await succeeds('ls', '--store', store)).toBe(`${nameOf(path)}\n`);
    await succeeds('fsck', '--repair', '--from', other.store, '--store', store);
    expect((await succeeds('ls', '--store', store)).split('\n').sort()).toEqual(
      ['', nameOf(path), nameOf(wanted)].sort(),
    );
    await succeeds('fsck', '--store', store);
  });

  test('tells what a collection that was killed has hidden; whoever writes next brings it back', async () => {
    for (const back of [
      ['root', 'remove', 'none'],
      ['fsck', '--repair'],
      ['gc', '--older-than', '1h'],
    ]) {
      const { dir, store, path } = await imported();
      const local = LocalStore.open(dir, 'store');
      const infos = local.env.table('pathinfo');
      local.env.transaction(() => {
        for (const { key, value } of [...infos.rows()]) {
          local.env.table('condemned').putSync(key, value);
          infos.removeSync(key);
        }
      });
      await local.close();
      const found = await tvixStore(['fsck', '--store', store]);
      expect([found.status, found.stdout]).toEqual([1, expect.stringContaining(`hidden: ${path}`)]);
      await tvixStore([...back, '--store', store]);
      expect(await succeeds('ls', '--store', store)).toBe(`${nameOf(path)}\n`);
      await succeeds('fsck', '--store', store);
    }
  });
});

describe('compact', () => {
  test('gives back the room of what was deleted, and everything is there', async () => {
    const dir = tempDir();
    const store = ['--store', `local://${dir}/store`];
    const files = (seed: string, count: number) =>
      Object.fromEntries(
        Array.from({ length: count }, (_, i) => [`f${i}`, file(randomBytes(20_000, seed + i))]),
      );
    writeTree(join(dir, 'kept'), directory(files('kept', 20)));
    writeTree(join(dir, 'gone'), directory(files('gone', 200)));
    const kept = (await tvixStore(['import', ...store, join(dir, 'kept')])).stdout.trim();
    await tvixStore(['import', ...store, join(dir, 'gone')]);
    await tvixStore(['root', 'add', ...store, 'kept', kept]);
    await tvixStore(['gc', ...store, '--older-than', '0']);
    const { before, after } = JSON.parse((await tvixStore(['compact', ...store, '--json'])).stdout);
    expect(before).toBeGreaterThan(4_000_000);
    expect(after).toBeLessThan(1_000_000);
    expect(readdirSync(join(dir, 'store')).filter((name) => /alone|new/.test(name))).toEqual([]);
    expect(await tvixStore(['fsck', ...store])).toMatchObject({ status: 0 });
    expect(await tvixStore(['verify', ...store, '--all'])).toMatchObject({ status: 0 });
    expect((await tvixStore(['root', 'list', ...store])).stdout).toContain(kept);
    expect(await tvixStore(['import', ...store, join(dir, 'gone')])).toMatchObject({ status: 0 });
  });

  test('of a store that is in use, or is none, leaves everything as it is', async () => {
    const dir = tempDir();
    const store = ['--store', `local://${dir}/store`];
    writeTree(join(dir, 'tree'), file('contents'));
    await tvixStore(['import', ...store, join(dir, 'tree')]);
    const daemon = await startTvixStore(['daemon', ...store, '-l', join(dir, 'socket')], 'listening');
    const refused = await tvixStore(['compact', ...store]);
    expect(refused).toMatchObject({ status: 1, stdout: '' });
    expect(refused.stderr).toContain(`stop process ${daemon.pid} first`);
    expect(readdirSync(join(dir, 'store')).filter((name) => /alone|new/.test(name))).toEqual([]);
    daemon.kill();
    expect(await tvixStore(['compact', '--store', `local://${dir}/nowhere`])).toMatchObject({ status: 1 });
    expect(await tvixStore(['compact', '--store', 'memory://'])).toMatchObject({ status: 2 });
  });
});
