import type { SpawnOptions } from 'node:child_process';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { importPath } from '../../src/castore/import/file-system.ts';
import { asBuffer } from '../../src/util/bytes.ts';
import { CLI, run, tvixStore } from '../helpers/cli.ts';
import { describeFacts } from '../helpers/facts.ts';
import { randomBytes } from '../helpers/random.ts';
import { checkLocalStore, localStore, memoryStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree, symlink, writeTree } from '../helpers/trees.ts';

const IS_ROOT = process.getuid?.() === 0;

/** A folder to work in, and a store in it. */
function place() {
  const dir = tempDir();
  const store = join(dir, 'store');
  const importing = (paths: readonly string[], options: SpawnOptions = {}) =>
    tvixStore(['import', '--store', `local://${store}`, ...paths], options);
  return { dir, store, importing };
}

/** Imports what cannot be imported: it must name the path, and leave nothing that can be seen. */
async function expectRefused(
  { store, importing }: ReturnType<typeof place>,
  path: string,
  named: string,
  why: RegExp,
): Promise<void> {
  const { status, stdout, stderr } = await importing([path]);
  expect(stderr).toContain(named);
  expect(stderr).toMatch(why);
  expect(stderr).not.toContain('    at ');
  expect(status).toBe(1);
  expect(stdout).toBe('');
  expect(await checkLocalStore(store)).toEqual([]);
}

describe('import', () => {
  test('takes a tree with everything that a tree can hold', async () => {
    const { dir, store, importing } = place();
    writeTree(
      join(dir, 'tree'),
      directory({
        '.hidden': file('x'),
        'a b': file('with a space'),
        'b.txt': file(''),
        bin: directory({ exe: file('#!/bin/sh\n', true), data: file('data') }),
        empty: directory({ deeper: directory() }),
        large: file(randomBytes(3_000_000, 'everything')),
        link: symlink('bin/exe'),
        dangling: symlink('../no/where'),
        'new\nline': file('odd'),
        'back\\slash': file('odd'),
        '\xff\xfe\x80': file('not UTF-8'),
        '\xe9t\xe9': directory({ '\xff': symlink('\xff') }),
      }),
    );
    const { status, stdout, stderr } = await importing([join(dir, 'tree')]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^\/nix\/store\/[0-9a-z]{32}-tree\n$/);
    expect(await checkLocalStore(store)).toEqual([stdout.trim()]);
  });

  test('sees nothing of a tree but names, contents, links and whether the owner may execute', async () => {
    const { dir, importing } = place();
    const tree = directory({ a: file('a'), b: file('b', true), c: directory() });
    for (const name of ['one', 'two']) {
      mkdirSync(join(dir, name));
      writeTree(join(dir, name, 'tree'), tree);
    }
    chmodSync(join(dir, 'two/tree/a'), 0o477);
    chmodSync(join(dir, 'two/tree/b'), 0o500);
    chmodSync(join(dir, 'two/tree/c'), 0o700);
    const { stdout } = await importing([join(dir, 'one/tree'), join(dir, 'two/tree')]);
    const [one, two] = stdout.split('\n');
    expect(two).toBe(one);
  });

  test('prints one store path a line, in the order given', async () => {
    const { dir, store, importing } = place();
    const names = ['zebra', 'large', 'ant', 'middle'];
    for (const name of names)
      writeTree(join(dir, name), file(randomBytes(name === 'large' ? 9_000_000 : 10, name)));
    const { stdout } = await importing(names.map((name) => join(dir, name)));
    const printed = stdout.trimEnd().split('\n');
    expect(printed.map((path) => path.slice('/nix/store/'.length + 33))).toEqual(names);
    expect(await checkLocalStore(store)).toEqual(printed.sort());
  });

  test('takes a single file or link, without following it', async () => {
    const { dir, store, importing } = place();
    writeTree(join(dir, 'file'), file('contents'));
    writeTree(join(dir, 'link'), symlink('file'));
    const { stdout } = await importing([join(dir, 'file'), join(dir, 'link')]);
    const opened = localStore(store);
    const kinds: string[] = [];
    for await (const { node } of opened.pathInfos.list()) kinds.push(node.kind);
    await opened.close();
    expect(kinds.sort()).toEqual(['file', 'symlink']);
    expect(await checkLocalStore(store)).toEqual(stdout.trimEnd().split('\n').sort());
  });

  test('names a store path by --name, else by the last part of the path', async () => {
    const { dir, importing } = place();
    mkdirSync(join(dir, 'tree/inner'), { recursive: true });
    const named = await importing(['--name', 'other', join(dir, 'tree')]);
    expect(named.stdout).toMatch(/-other\n$/);
    const paths = [`${dir}/tree/`, `${dir}/tree/inner/..`, '.', 'inner/../../tree'];
    const { stdout } = await importing(paths, { cwd: join(dir, 'tree') });
    expect(new Set(stdout.trimEnd().split('\n')).size).toBe(1);
    expect(stdout).toMatch(/-tree\n$/);
  });

  test('refuses a bad name before it does anything, and says how to give another', async () => {
    const { dir, store, importing } = place();
    writeTree(join(dir, 'good'), file('x'));
    writeTree(join(dir, 'te st'), file('x'));
    const { status, stdout, stderr } = await importing([join(dir, 'good'), join(dir, 'te st')]);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain(`${dir}/te st cannot give a name: the name "te st" contains " "`);
    expect(stderr).toContain('give --name, because');
    expect(await checkLocalStore(store)).toEqual([]);
    expect((await importing(['--name', 'te-st', join(dir, 'te st')])).stdout).toMatch(/-te-st\n$/);
    for (const name of ['a/b', '', 'x'.repeat(212)]) {
      expect((await importing(['--name', name, join(dir, 'good')])).status).toBe(2);
    }
  });

  test('writes nothing new the second time, not even from a copy', async () => {
    const { dir, store, importing } = place();
    writeTree(join(dir, 'tree'), generateTree(300, 3));
    const first = await importing([join(dir, 'tree')]);
    const chunks = () => readdirSync(join(store, 'chunks'), { recursive: true, encoding: 'utf8' }).sort();
    const before = { database: readFileSync(join(store, 'store.lmdb')), chunks: chunks() };
    mkdirSync(join(dir, 'copy'));
    cpSync(join(dir, 'tree'), join(dir, 'copy/tree'), { recursive: true, verbatimSymlinks: true });
    for (const path of ['tree', 'copy/tree']) {
      expect(await importing([join(dir, path)])).toEqual(first);
    }
    expect(chunks()).toEqual(before.chunks);
    expect(readFileSync(join(store, 'store.lmdb')).equals(before.database)).toBe(true);
    expect(readdirSync(join(store, 'sessions'))).toEqual([]);
  });

  test('is seen at once by a process that has the store open', async () => {
    const { dir, store, importing } = place();
    writeTree(join(dir, 'file'), file('contents'));
    const opened = localStore(store);
    const hash = Buffer.from('00'.repeat(20), 'hex');
    expect(await opened.pathInfos.get(hash)).toBeUndefined();
    const { stdout } = await importing([join(dir, 'file')]);
    const seen: string[] = [];
    for await (const { storePath } of opened.pathInfos.list()) seen.push(storePath.absolute());
    expect(seen).toEqual([stdout.trim()]);
    await opened.close();
  });

  test('by several processes of the same tree at once stores it once', async () => {
    const { dir, store, importing } = place();
    writeTree(join(dir, 'tree'), generateTree(400, 4));
    const results = await Promise.all([1, 2, 3].map(() => importing([join(dir, 'tree')])));
    expect(new Set(results.map(({ stdout }) => stdout)).size).toBe(1);
    expect(results.map(({ status }) => status)).toEqual([0, 0, 0]);
    expect(await checkLocalStore(store)).toEqual([results[0]!.stdout.trim()]);
    const files = readdirSync(join(store, 'chunks'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.includes('.'))
      .map((name) => name.split('.')[0]);
    expect(new Set(files).size).toBe(files.length);
  });
});

describeFacts('import_path_to_name', (all) => {
  test.each(all.filter(({ input }) => input.path))('$name', async ({ input, expected }) => {
    const { dir, importing } = place();
    for (const sub of ['a/b/c/d', 'a/c/d', 'a/c/e']) mkdirSync(join(dir, sub), { recursive: true });
    const { stdout } = await importing([input.path], { cwd: dir });
    expect(stdout.trim().slice('/nix/store/'.length + 33)).toBe(expected.name);
  });

  test('fail_non_utf8', async () => {
    const { dir, store } = place();
    const name = Buffer.from(all.find((fact) => fact.name === 'fail_non_utf8')!.input.path_hex, 'hex');
    writeTree(Buffer.concat([Buffer.from(`${dir}/`), name]), file('x'));
    const command = 'exec "$0" "$1" import --store "$2" "$3"/*';
    mkdirSync(join(dir, 'only'));
    renameSync(
      Buffer.concat([Buffer.from(`${dir}/`), name]),
      Buffer.concat([Buffer.from(`${dir}/only/`), name]),
    );
    const args = ['-c', command, process.execPath, CLI, `local://${store}`, join(dir, 'only')];
    const { status, stdout, stderr } = await run('bash', args);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain('give --name, because');
  });
});

describe('import refuses, names the path and registers nothing', () => {
  test('for a path that is not there', async () => {
    const here = place();
    const path = join(here.dir, 'missing');
    await expectRefused(here, path, path, /no such file/i);
  });

  test('for a pipe', async () => {
    const here = place();
    mkdirSync(join(here.dir, 'tree'));
    await run('mkfifo', [join(here.dir, 'tree/pipe')]);
    await expectRefused(here, join(here.dir, 'tree'), 'tree/pipe', /only files, directories and links/);
    await expectRefused(here, join(here.dir, 'tree/pipe'), 'tree/pipe', /only files, directories and links/);
  });

  test('for a socket', async () => {
    const here = place();
    mkdirSync(join(here.dir, 'tree'));
    const server = createServer().listen(join(here.dir, 'tree/socket'));
    await once(server, 'listening');
    await expectRefused(here, join(here.dir, 'tree'), 'tree/socket', /only files, directories and links/);
    server.close();
  });

  test('for a device', async () => {
    await expectRefused(place(), '/dev/null', '/dev/null', /only files, directories and links/);
  });

  test('for an unreadable file or directory', async () => {
    const { dir, store, importing } = place();
    const user = IS_ROOT ? { uid: 65_534, gid: 65_534 } : {};
    writeTree(join(dir, 'file'), directory({ secret: file('x') }));
    writeTree(join(dir, 'directory'), directory({ secret: directory() }));
    mkdirSync(store);
    chmodSync(dir, 0o755);
    if (IS_ROOT) chownSync(store, 65_534, 65_534);
    for (const name of ['file', 'directory']) {
      chmodSync(join(dir, name, 'secret'), 0);
      const { status, stdout, stderr } = await importing([join(dir, name)], user);
      expect(stderr).toContain(`${name}/secret: cannot be read: permission denied`);
      expect(status).toBe(1);
      expect(stdout).toBe('');
      chmodSync(join(dir, name, 'secret'), 0o700);
    }
    expect(await checkLocalStore(store)).toEqual([]);
  });

  test('for a file that keeps growing or changing while it is read', async () => {
    const here = place();
    const path = join(here.dir, 'growing');
    writeFileSync(path, randomBytes(1 << 20, 'growing'));
    truncateSync(path, 256 << 20);
    // Another process writes into the file all the time that the import runs.
    const script = `const fs = require('node:fs');
      const fd = fs.openSync(process.argv[1], 'r+');
      for (let i = 0; ; i++) {
        fs.writeSync(fd, String(i), 0);
        if (i === 1) fs.writeSync(1, 'writing');
      }`;
    const writer = spawn(process.execPath, ['-e', script, path], { stdio: ['ignore', 'pipe', 'ignore'] });
    try {
      await once(writer.stdout, 'data');
      await expectRefused(here, path, path, /changed while it was read; import it again/);
    } finally {
      writer.kill('SIGKILL');
    }
  });

  test('for the second of two paths, and keeps the first', async () => {
    const { dir, store, importing } = place();
    writeTree(join(dir, 'good'), file('good'));
    const { status, stdout, stderr } = await importing([join(dir, 'good'), join(dir, 'missing')]);
    expect(status).toBe(1);
    expect(stderr).toContain('missing');
    expect(await checkLocalStore(store)).toEqual([stdout.trim()]);
  });
});

describe('what changes at an exact moment of an import', () => {
  /** Imports a tree of `a` (small), `b` (several MiB), `c/d` and `e`, and acts once when `name` was entered. */
  async function importWith(name: string, act: (dir: string) => void, bytes = 0): Promise<string> {
    const dir = join(tempDir(), 'tree');
    const large = file(randomBytes(3_000_000, 'large'));
    writeTree(dir, directory({ a: file('aaa'), b: large, c: directory({ d: file('ddd') }), e: file('eee') }));
    const order = [dir, 'a', 'b', 'c', 'c/d', 'e'];
    const progress = { entries: 0, bytes: 0 };
    let acted = false;
    const imported = importPath(Buffer.from(dir), memoryStore(), {
      progress,
      onProgress: () => {
        if (acted || progress.entries <= order.indexOf(name) || progress.bytes < bytes) return;
        acted = true;
        act(dir);
      },
    });
    return imported.then(
      () => 'imported',
      (error: Error) => error.message.replace(dir, 'tree'),
    );
  }

  const CHANGED = 'changed while it was read; import it again';

  test('a file that grows', async () => {
    const grow = (dir: string) => appendFileSync(join(dir, 'b'), 'more');
    expect(await importWith('b', grow, 1_000_000)).toBe(`tree/b: ${CHANGED}`);
  });

  test('a file that shrinks', async () => {
    const shrink = (dir: string) => truncateSync(join(dir, 'b'), 2_000_000);
    expect(await importWith('b', shrink, 1_000_000)).toBe(`tree/b: ${CHANGED}`);
  });

  test('a file that is written over', async () => {
    // Later than the clock that the kernel stamps files with, which ticks every few milliseconds.
    const write = (dir: string) => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30);
      const fd = openSync(join(dir, 'b'), 'r+');
      writeSync(fd, asBuffer(randomBytes(10, 'over')), 0, 10, 0);
      closeSync(fd);
    };
    expect(await importWith('b', write, 1_000_000)).toBe(`tree/b: ${CHANGED}`);
  });

  test('a file that vanishes before it is opened', async () => {
    expect(await importWith('e', (dir) => unlinkSync(join(dir, 'e')))).toBe(`tree/e: ${CHANGED}`);
  });

  test('a directory that vanishes before it is opened', async () => {
    const move = (dir: string) => renameSync(join(dir, 'c'), `${dir}-moved`);
    expect(await importWith('c', move)).toBe(`tree/c: ${CHANGED}`);
  });

  test('a file whose place is taken by a link, a pipe or a directory', async () => {
    const taking: ((path: string) => void)[] = [
      (path) => symlinkSync('/etc/passwd', path),
      (path) => void spawnSync('mkfifo', [path]),
      (path) => mkdirSync(path),
    ];
    for (const take of taking) {
      const replace = (dir: string) => {
        unlinkSync(join(dir, 'e'));
        take(join(dir, 'e'));
      };
      expect(await importWith('e', replace)).toBe(`tree/e: ${CHANGED}`);
    }
  });

  test('a directory that gains an entry after it was listed', async () => {
    const add = (dir: string) => {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30);
      writeFileSync(join(dir, 'c/new'), '');
    };
    expect(await importWith('c/d', add)).toBe(`tree/c: ${CHANGED}`);
  });

  test('nothing that was read before', async () => {
    const change = (dir: string) => appendFileSync(join(dir, 'a'), 'too late');
    expect(await importWith('c/d', change)).toBe('imported');
  });
});
