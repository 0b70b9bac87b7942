import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, describe, expect, test } from 'vitest';
import { CLI, run, tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { randomBytes } from '../helpers/random.ts';
import { localStore } from '../helpers/services.ts';
import type { Told } from '../helpers/store-paths.ts';
import { putStorePath, storePathOf } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import type { Tree } from '../helpers/trees.ts';
import { directory, file, generateTree, symlink, writeTree } from '../helpers/trees.ts';

const IS_ROOT = process.getuid?.() === 0;
const made: string[] = [];

afterAll(() => {
  // What is realised is read-only: only root could remove it as it is.
  for (const dir of made) spawnSync('chmod', ['-R', 'u+w', dir]);
});

/** A store with these store paths, and a directory to write them into. */
async function place(paths: Record<string, Tree | { tree: Tree; told: Told }> = {}) {
  const dir = tempDir();
  made.push(dir);
  const out = join(dir, 'out');
  mkdirSync(out);
  const storeDir = join(dir, 'store');
  const store = localStore(storeDir);
  for (const [name, path] of Object.entries(paths)) {
    const { tree, told } = 'tree' in path ? path : { tree: path, told: {} };
    await putStorePath(store, name, tree, told);
  }
  await store.close();
  const url = `local://${storeDir}`;
  const realise = (...args: string[]) => tvixStore(['realise', '--store', url, ...args, out]);
  return { dir, out, storeDir, url, realise, at: (name: string) => join(out, String(storePathOf(name))) };
}

const base = (name: string) => String(storePathOf(name));

/** Everything in a tree: mode, time in seconds, and contents or target. */
function read(path: Buffer): unknown {
  const stat = lstatSync(path);
  if (stat.isSymbolicLink()) return ['link', stat.mtimeMs / 1000, readlinkSync(path, 'latin1')];
  const facts = `${(stat.mode & 0o7777).toString(8)} ${stat.mtimeMs / 1000}`;
  if (stat.isFile()) return [facts, readFileSync(path, 'latin1')];
  const entries = readdirSync(path, { encoding: 'buffer' }).map((name) => [
    name.toString('latin1'),
    read(Buffer.concat([path, Buffer.from('/'), name])),
  ]);
  return [facts, Object.fromEntries(entries)];
}

/** What `read` gives for a tree that was written as it should be. */
function canonical(tree: Tree): unknown {
  if (tree.kind === 'symlink') return ['link', 1, tree.target];
  if (tree.kind === 'file')
    return [tree.executable ? '555 1' : '444 1', Buffer.from(tree.contents).toString('latin1')];
  return [
    '555 1',
    Object.fromEntries(Object.entries(tree.entries).map(([name, child]) => [name, canonical(child)])),
  ];
}

const EVERYTHING = directory({
  '.hidden': file('x'),
  'not \xff utf-8': file('bytes'),
  bin: directory({ exe: file('#!/bin/sh\n', true), empty: file('') }),
  deep: directory({ er: directory({ large: file(randomBytes(900_000, 1)) }) }),
  empty: directory(),
  link: symlink('../../../../etc/passwd'),
  'link \xfe': symlink('/\xff'),
});

describe('realise', () => {
  test('writes everything that a tree can hold, with the modes and times of Nix', async () => {
    const { realise, at } = await place({ tree: EVERYTHING });
    const { status, stdout, stderr } = await realise(`/nix/store/${base('tree')}`);
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: `${at('tree')}\n`, stderr: '' });
    expect(read(Buffer.from(at('tree')))).toEqual(canonical(EVERYTHING));
  });

  test('writes what it was imported from: importing it gives the same store path', async () => {
    const { url, realise, dir } = await place();
    const importing = async (...args: string[]) =>
      (await tvixStore(['import', '--store', url, '--name', 'tree', ...args])).stdout.trim();
    writeTree(join(dir, 'tree'), generateTree(500, 3));
    const path = await importing(join(dir, 'tree'));
    const { stdout } = await realise(path);
    expect(await importing(stdout.trim())).toBe(path);
  });

  test('writes several at once, files and links too, and is also spelt realize', async () => {
    const { url, out, at } = await place({ a: file('a', true), b: symlink('nowhere'), c: directory() });
    const names = ['c', 'a', 'b', 'a'];
    const { status, stdout } = await tvixStore(['realize', '--store', url, ...names.map(base), out]);
    expect(stdout).toBe(names.map((name) => `${at(name)}\n`).join(''));
    expect(status).toBe(0);
    expect(readdirSync(out).sort()).toEqual(['a', 'b', 'c'].map(base).sort());
    expect(read(Buffer.from(at('a')))).toEqual(['555 1', 'a']);
    expect(read(Buffer.from(at('b')))).toEqual(['link', 1, 'nowhere']);
  });

  test('takes references along with --closure, and refuses to when one is not there', async () => {
    const { realise, out, at } = await place({
      lib: { tree: file('lib'), told: { references: [storePathOf('lib')] } },
      app: { tree: file('app'), told: { references: [storePathOf('lib'), storePathOf('app')] } },
      broken: { tree: file('b'), told: { references: [storePathOf('app'), storePathOf('gone')] } },
    });
    const { status, stderr } = await realise('--closure', base('broken'));
    expect(stderr).toContain(storePathOf('gone').absolute());
    expect(status).toBe(1);
    expect(readdirSync(out)).toEqual([]);
    expect((await realise('--closure', base('app'))).stdout).toBe(`${at('app')}\n`);
    expect(readdirSync(out).sort()).toEqual([base('app'), base('lib')].sort());
  });

  test('keeps what is there when it is the same, and touches nothing when it is not', async () => {
    const { realise, at } = await place({ same: EVERYTHING, other: directory({ f: file('right') }) });
    await realise(base('same'));
    const { ino } = statSync(at('same'));
    expect((await realise(base('same'))).status).toBe(0);
    expect(statSync(at('same')).ino).toBe(ino);
    mkdirSync(at('other'));
    writeFileSync(join(at('other'), 'f'), 'wrong');
    const { status, stderr } = await realise(base('other'));
    expect(status).toBe(1);
    expect(stderr).toContain(`${base('other')} is there`);
    expect(readFileSync(join(at('other'), 'f'), 'utf8')).toBe('wrong');
  });

  test('follows no link that stands where it is to write', async () => {
    const { dir, realise, at, out } = await place({ tree: directory({ f: file('contents') }) });
    mkdirSync(join(dir, 'outside'));
    symlinkSync(join(dir, 'outside'), at('tree'));
    expect((await realise(base('tree'))).status).toBe(1);
    expect(readdirSync(join(dir, 'outside'))).toEqual([]);
    expect(readdirSync(out)).toEqual([base('tree')]);
  });

  test('names nothing whose NAR hash is wrong, and says what is damaged', async () => {
    const { storeDir, realise, out } = await place({
      liar: { tree: file('x'), told: { narSha256: new Uint8Array(32) } },
      large: directory({ large: file(randomBytes(300_000, 7)) }),
    });
    expect((await realise(base('liar'))).stderr).toContain('NAR hash');
    const chunk = spawnSync('find', [join(storeDir, 'chunks'), '-type', 'f'])
      .stdout.toString()
      .split('\n')[0]!;
    const bytes = readFileSync(chunk);
    bytes[100]! ^= 1;
    chmodSync(chunk, 0o644);
    writeFileSync(chunk, bytes);
    const { status, stderr } = await realise(base('large'));
    expect(stderr).toMatch(/chunk blake3-\S+ is damaged/);
    expect(status).toBe(1);
    expect(readdirSync(out)).toEqual([]);
  });

  test('says so when the directory is not there, is none, or is left out', async () => {
    const { dir, url } = await place({ a: file('a') });
    const realise = (...args: string[]) => tvixStore(['realise', '--store', url, ...args]);
    const absent = await realise(base('a'), join(dir, 'absent'));
    expect(absent).toMatchObject({ status: 1 });
    expect(absent.stderr).toContain('make the directory first');
    writeFileSync(join(dir, 'file'), '');
    expect((await realise(base('a'), join(dir, 'file'))).stderr).toContain('is not a directory');
    expect(await realise(base('a'))).toMatchObject({ status: 2 });
  });

  test('reads a store that is far', async () => {
    const { dir, url, out, at } = await place({ tree: EVERYTHING, other: generateTree(300, 5) });
    const daemon = await startDaemon(url, join(dir, 'socket'));
    const args = ['realise', '--store', daemon.url, base('tree'), base('other'), out];
    expect(await tvixStore(args)).toMatchObject({ status: 0, stderr: '' });
    expect(read(Buffer.from(at('tree')))).toEqual(canonical(EVERYTHING));
    expect(read(Buffer.from(at('other')))).toEqual(canonical(generateTree(300, 5)));
    await daemon.stop();
    const failed = await tvixStore([...args.slice(0, 4), base('other'), join(dir)]);
    expect(failed.status).toBe(1);
  });
});

describe('realise --hard-link', () => {
  test('makes equal files one, across store paths, but not with others in the store or by mode', async () => {
    const tree = () => directory({ a: file('same'), b: file('same'), exe: file('same', true) });
    const { realise, at } = await place({ one: tree(), two: tree() });
    expect((await realise('--hard-link', base('one'), base('two'))).status).toBe(0);
    const inode = (name: string) => statSync(join(at('one'), '..', name)).ino;
    const same = ['one', 'two'].flatMap((name) => [inode(`${base(name)}/a`), inode(`${base(name)}/b`)]);
    expect(new Set(same).size).toBe(1);
    expect(inode(`${base('one')}/exe`)).toBe(inode(`${base('two')}/exe`));
    expect(inode(`${base('one')}/exe`)).not.toBe(same[0]);
    expect(statSync(join(at('one'), 'a')).nlink).toBe(4);
    expect(read(Buffer.from(at('two')))).toEqual(canonical(tree()));
  });
});

describe('a realise that is cut short', () => {
  const start = (url: string, out: string) =>
    spawn(process.execPath, [CLI, 'realise', '--store', url, base('big'), out], { stdio: 'ignore' });
  /** Waits until something is being written. */
  const begun = async (out: string) => {
    while (!readdirSync(out).some((name) => /-\d+$/.test(name))) await delay(5);
  };

  test('leaves temporary names that the next one takes away, unless somebody lives', async () => {
    const tree = generateTree(3000, 11);
    const { url, out, realise, at } = await place({ big: tree, small: file('s') });
    const child = start(url, out);
    await begun(out);
    child.kill('SIGSTOP');
    const temporary = readdirSync(out);
    expect(temporary.length).toBeGreaterThan(0);
    for (const name of temporary) expect(name).toMatch(/^\.tvix-store-/);
    expect((await realise(base('small'))).status).toBe(0);
    expect(readdirSync(out)).toEqual(expect.arrayContaining(temporary));
    child.kill('SIGKILL');
    await once(child, 'close');
    expect((await realise(base('big'))).status).toBe(0);
    expect(readdirSync(out).sort()).toEqual([base('big'), base('small')].sort());
    expect(read(Buffer.from(at('big')))).toEqual(canonical(tree));
  });

  test("takes away nothing that is somebody else's", async () => {
    const { url, out, realise } = await place({ big: generateTree(3000, 14), small: file('s') });
    const id = '0123456789abcdef';
    const names = [
      '.tvix-store-key.sec',
      `.tvix-store-${id}`,
      `.tvix-store-${id}.unfinished`,
      '.tvix-store-empty',
    ];
    for (const name of names) writeFileSync(join(out, name), `of ${name}`);
    for (const name of ['.tvix-store-backups', `.tvix-store-${id}-0`]) {
      mkdirSync(join(out, name));
      writeFileSync(join(out, name, 'file'), 'kept');
    }
    symlinkSync('.tvix-store-backups', join(out, `.tvix-store-${id}-1`));
    const before = readdirSync(out);
    const child = start(url, out);
    while (readdirSync(out).length < before.length + 2) await delay(5);
    child.kill('SIGKILL');
    await once(child, 'close');
    // Whoever gives his file the name and the text of a marker of a run that never was loses that file only.
    expect((await realise(base('small'))).status).toBe(0);
    expect(readdirSync(out).sort()).toEqual([...before, base('small')].sort());
    expect(readFileSync(join(out, '.tvix-store-backups/file'), 'utf8')).toBe('kept');
  });

  test.skipIf(!IS_ROOT)('leaves alone what is mounted in what it left', async () => {
    const { url, out, realise } = await place({ big: generateTree(3000, 15), small: file('s') });
    const child = start(url, out);
    const unfinished = () => readdirSync(out).find((name) => /-\d+$/.test(name));
    while (!unfinished() || !statSync(join(out, unfinished()!)).isDirectory()) await delay(5);
    child.kill('SIGKILL');
    await once(child, 'close');
    const left = join(out, unfinished()!);
    chmodSync(left, 0o755);
    mkdirSync(join(left, 'mounted'));
    expect(spawnSync('mount', ['-t', 'tmpfs', 'none', join(left, 'mounted')]).status).toBe(0);
    try {
      writeFileSync(join(left, 'mounted/file'), 'kept');
      const { status, stderr } = await realise(base('small'));
      expect(status, stderr).toBe(0);
      expect(stderr).toContain('something is mounted in it');
      expect(readFileSync(join(left, 'mounted/file'), 'utf8')).toBe('kept');
    } finally {
      spawnSync('umount', [join(left, 'mounted')]);
    }
    expect((await realise(base('small'))).status).toBe(0);
    expect(readdirSync(out)).toEqual([base('small')]);
  });

  test('by a signal that it hears takes away what it wrote, and ends of it', async () => {
    const { url, out } = await place({ big: generateTree(3000, 12) });
    const child = start(url, out);
    await begun(out);
    child.kill('SIGTERM');
    const [status, signal] = await once(child, 'close');
    // It may have been done a moment before.
    expect(status === 0 ? 'SIGTERM' : signal).toBe('SIGTERM');
    expect(readdirSync(out).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  test('does not matter to another that writes the same', async () => {
    const tree = generateTree(2000, 13);
    const { realise, out, at } = await place({ big: tree });
    const results = await Promise.all([realise(base('big')), realise(base('big')), realise(base('big'))]);
    expect(results.map(({ status, stderr }) => ({ status, stderr }))).toEqual(
      Array(3).fill({ status: 0, stderr: '' }),
    );
    expect(readdirSync(out)).toEqual([base('big')]);
    expect(read(Buffer.from(at('big')))).toEqual(canonical(tree));
  });
});

describe.skipIf(!IS_ROOT)('realise into a file system', () => {
  const mounted = async (options: string, use: (dir: string) => Promise<void>) => {
    const dir = tempDir();
    const { status, stderr } = await run('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', dir]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    try {
      await use(dir);
    } finally {
      await run('umount', ['-l', dir]);
    }
  };

  test('that is too small leaves nothing, and says so', async () => {
    const { url } = await place({
      tree: directory({ d: directory({ f: file(randomBytes(3_000_000, 2)) }) }),
    });
    await mounted('size=1m', async (dir) => {
      const { status, stderr } = await tvixStore(['realise', '--store', url, base('tree'), dir]);
      expect(stderr).toBe(`error: cannot write ${dir}/${base('tree')}/d/f: no space left\n`);
      expect(status).toBe(1);
      expect(readdirSync(dir)).toEqual([]);
    });
  });

  test('that is read-only says so', async () => {
    const { url } = await place({ tree: directory() });
    await mounted('size=1m,ro', async (dir) => {
      const { status, stderr } = await tvixStore(['realise', '--store', url, base('tree'), dir]);
      expect(stderr).toBe(`error: cannot write ${dir}: read-only file system\n`);
      expect(status).toBe(1);
    });
  });
});
