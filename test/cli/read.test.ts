import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import { encodeBase32 } from '../../src/nix/base32.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import { UseTable } from '../../src/store/keeping/uses.ts';
import { pathInfo } from '../contract/path-infos.ts';
import { CLI, run, tvixStore } from '../helpers/cli.ts';
import { randomBytes } from '../helpers/random.ts';
import { localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, symlink, writeTree } from '../helpers/trees.ts';

const dir = tempDir();
const store = `local://${dir}/store`;
const LARGE = randomBytes(5_000_000, 'large');
const NOT_UTF8 = '\xff\xfe';
let tree = '';
let script = '';
let link = '';

const read = (...args: string[]) => tvixStore([...args, '--store', store]);
const hashOf = (path: string) => path.slice('/nix/store/'.length, '/nix/store/'.length + 32);
const digestOf = (contents: string | Uint8Array) => Digest.hash(Buffer.from(contents)).toString();

beforeAll(async () => {
  writeTree(
    join(dir, 'tree'),
    directory({
      bin: directory({ run: file('#!/bin/sh\n', true) }),
      empty: directory(),
      large: file(LARGE),
      link: symlink('bin/run'),
      'new\nline': file('odd'),
      [NOT_UTF8]: symlink(NOT_UTF8),
    }),
  );
  writeTree(join(dir, 'script'), file('#!/bin/sh\n', true));
  writeTree(join(dir, 'link'), symlink('/some/where'));
  const { stdout } = await read('import', join(dir, 'tree'), join(dir, 'script'), join(dir, 'link'));
  [tree, script, link] = stdout.split('\n') as [string, string, string];
});

describe('ls', () => {
  test('without a path lists the store', async () => {
    const { status, stdout } = await read('ls');
    expect(status).toBe(0);
    const bases = [tree, script, link].map((path) => path.slice('/nix/store/'.length));
    expect(stdout.trimEnd().split('\n').sort()).toEqual(bases.sort());
  });

  test('sorts store paths by name, by size, and by when they were added or used', async () => {
    const at = ['--store', `local://${dir}/sorted`];
    const made: string[] = [];
    for (const [name, size] of Object.entries({ b: 10, a: 2000, c: 300 })) {
      writeTree(join(dir, `sorted-${name}`), file('x'.repeat(size)));
      made.push(
        (await tvixStore(['import', ...at, '--name', name, join(dir, `sorted-${name}`)])).stdout.trim(),
      );
    }
    const namesBy = async (key: string) => {
      const { stdout } = await tvixStore(['ls', ...at, '--sort', key]);
      return stdout
        .trim()
        .split('\n')
        .map((line) => line.at(-1));
    };
    expect(await namesBy('name')).toEqual(['a', 'b', 'c']);
    expect(await namesBy('size')).toEqual(['a', 'c', 'b']);
    // As if there were days between them.
    const local = LocalStore.open(join(dir, 'sorted'), 'store');
    const uses = new UseTable(local.env);
    const real = Date.now;
    try {
      for (const [days, path] of [
        [3, made[0]!],
        [1, made[1]!],
        [2, made[2]!],
      ] as const) {
        const { hash } = StorePath.parseAbsolute(path);
        local.env.transaction(() => uses.table.removeSync(hash));
        Date.now = () => real() - days * 86_400_000;
        local.env.transaction(() => uses.note(hash, 0));
      }
      Date.now = real;
      // A use of the one that was added first.
      local.env.transaction(() => uses.note(StorePath.parseAbsolute(made[0]!).hash, 0));
    } finally {
      Date.now = real;
      await local.close();
    }
    expect(await namesBy('added')).toEqual(['a', 'c', 'b']);
    expect(await namesBy('used')).toEqual(['b', 'a', 'c']);
    const long = await tvixStore(['ls', ...at, '-l', '--sort', 'added']);
    expect(long.stdout).toMatch(/^\d{4}-\d\d-\d\dT[\d:]{8}Z -r--r--r-- +2000 \w{32}-a\n/);
    const [first] = (await tvixStore(['ls', ...at, '--json', '--sort', 'added'])).stdout.split('\n');
    const { added, used, narSize } = JSON.parse(first!);
    expect([narSize > 2000, added, used]).toEqual([true, used, expect.stringMatching(/Z$/)]);
    const ago = (Date.now() - Date.parse(added)) / 86_400_000;
    expect(Math.abs(ago - 1)).toBeLessThan(0.1);
    // Who does not know times says so.
    expect(await tvixStore(['ls', '--store', 'memory://', '--sort', 'used'])).toMatchObject({ status: 2 });
    expect(await tvixStore(['ls', ...at, '--sort', 'used', made[0]!])).toMatchObject({ status: 2 });
  });

  test('lists a directory by its names alone', async () => {
    const { stdout } = await read('ls', tree);
    expect(stdout).toBe('bin\nempty\nlarge\nlink\nnew\\x0aline\n\\xff\\xfe\n');
  });

  test('-lR shows modes, sizes, targets and what is below', async () => {
    const { stdout } = await read('ls', '-l', '-R', tree);
    expect(stdout.split('\n').map((line) => line.replace(/ +/g, ' '))).toEqual([
      'dr-xr-xr-x 2 bin',
      '-r-xr-xr-x 10 bin/run',
      'dr-xr-xr-x 0 empty',
      '-r--r--r-- 5000000 large',
      'lrwxrwxrwx 7 link -> bin/run',
      '-r--r--r-- 3 new\\x0aline',
      'lrwxrwxrwx 2 \\xff\\xfe -> \\xff\\xfe',
      '',
    ]);
  });

  test('-R --json gives every entry as an object, and loses nothing of names that are not UTF-8', async () => {
    const { stdout } = await read('ls', '-R', '--json', tree);
    const rows = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    const base64 = Buffer.from(NOT_UTF8, 'latin1').toString('base64');
    const script = { size: 10, executable: true, digest: digestOf('#!/bin/sh\n') };
    expect(rows).toEqual([
      { path: 'bin', type: 'directory', size: 2, digest: expect.stringMatching(/^blake3-/) },
      { path: 'bin/run', type: 'regular', ...script },
      { path: 'empty', type: 'directory', size: 0, digest: digestOf('') },
      { path: 'large', type: 'regular', size: LARGE.length, executable: false, digest: digestOf(LARGE) },
      { path: 'link', type: 'symlink', target: 'bin/run' },
      { path: 'new\nline', type: 'regular', size: 3, executable: false, digest: digestOf('odd') },
      { pathBase64: base64, type: 'symlink', targetBase64: base64 },
    ]);
  });

  test('-R without a path lists what is below every store path', async () => {
    const { stdout } = await read('ls', '-R');
    expect(stdout.split('\n')).toContain(`${tree.slice('/nix/store/'.length)}/bin/run`);
  });

  test('takes a path in every spelling', async () => {
    const base = tree.slice('/nix/store/'.length);
    for (const place of [`${tree}/bin/`, `${base}//bin`, `${hashOf(tree)}/./bin`]) {
      expect((await read('ls', place)).stdout).toBe('run\n');
    }
  });

  test('of a file or link lists itself', async () => {
    expect((await read('ls', `${tree}/bin/run`)).stdout).toBe('run\n');
    expect((await read('ls', script)).stdout).toBe(`${script.slice('/nix/store/'.length)}\n`);
    expect((await read('ls', '-l', link)).stdout).toContain('-> /some/where');
  });

  test.each(['missing', 'bin/missing', 'large/below', 'link/run'])('of %s finds nothing', async (sub) => {
    const { status, stderr } = await read('ls', `${tree}/${sub}`);
    expect(status).toBe(1);
    expect(stderr).toBe(`error: ${tree} has no ${sub}\n`);
  });

  test('does not go up', async () => {
    const { status, stderr } = await read('ls', `${tree}/bin/..`);
    expect(status).toBe(2);
    expect(stderr).toContain('".." cannot be used');
  });

  test('finds nothing for the right hash with another name', async () => {
    const { status, stderr } = await read('ls', `${hashOf(tree)}-other`);
    expect(status).toBe(1);
    expect(stderr).toContain('is not in the store');
  });
});

describe('cat', () => {
  const cat = async (path: string) => {
    const child = spawn(process.execPath, [CLI, 'cat', '--store', store, path]);
    const ended = once(child, 'close');
    const contents = await buffer(child.stdout);
    return { status: (await ended)[0], contents };
  };

  test('prints a small file, and one that is itself a store path', async () => {
    expect((await cat(`${hashOf(tree)}/bin/run`)).contents.toString()).toBe('#!/bin/sh\n');
    expect((await cat(script)).contents.toString()).toBe('#!/bin/sh\n');
  });

  test('prints a large file whole', async () => {
    const { status, contents } = await cat(`${tree}/large`);
    expect(status).toBe(0);
    expect(contents.equals(LARGE)).toBe(true);
  });

  test('ends quietly when nobody reads on', async () => {
    const command = `"$0" "$1" cat --store "$2" "$3" | head -c 10 | wc -c; echo "\${PIPESTATUS[0]}"`;
    const args = ['-c', command, process.execPath, CLI, store, `${tree}/large`];
    const { stdout, stderr } = await run('bash', args);
    expect(stdout.trim().split(/\s+/)).toEqual(['10', '0']);
    expect(stderr).toBe('');
  });

  test.each(['', '/bin', '/link'])('refuses what is no file: %j', async (sub) => {
    const { status, stderr } = await read('cat', tree + sub);
    expect(status).toBe(1);
    expect(stderr).toMatch(/ is a (directory|symlink), not a file\n$/);
  });
});

describe('path-info', () => {
  test('without a path lists the store', async () => {
    const { stdout } = await read('path-info');
    expect(stdout.trimEnd().split('\n').sort()).toEqual([tree, script, link].sort());
  });

  test('--json tells all that is known, by store path', async () => {
    const { stdout } = await read(
      'path-info',
      '--json',
      script,
      hashOf(link),
      tree.slice('/nix/store/'.length),
    );
    const infos = JSON.parse(stdout);
    expect(Object.keys(infos)).toEqual([script, link, tree]);
    expect(infos[script]).toEqual({
      narHash: expect.stringMatching(/^sha256:[0-9a-z]{52}$/),
      narSize: 160,
      references: [],
      ca: `fixed:r:${infos[script].narHash}`,
      signatures: [],
      root: { type: 'regular', digest: digestOf('#!/bin/sh\n'), size: 10, executable: true },
    });
    expect(infos[link].root).toEqual({ type: 'symlink', target: '/some/where' });
    expect(infos[tree].root).toMatchObject({ type: 'directory', size: 14 });
  });

  test('--json of an empty store is an empty object', async () => {
    await localStore(`${dir}/empty-store`).close();
    const { stdout } = await tvixStore(['path-info', '--json', '--store', `local://${dir}/empty-store`]);
    expect(JSON.parse(stdout)).toEqual({});
  });

  test('shows references, deriver and signatures', async () => {
    const info = pathInfo('shown');
    const opened = localStore(`${dir}/shown`);
    await opened.pathInfos.put(info);
    await opened.close();
    const { stdout } = await tvixStore([
      'path-info',
      '--store',
      `local://${dir}/shown`,
      String(info.storePath),
    ]);
    expect(stdout.split('\n')).toEqual([
      `StorePath: ${info.storePath.absolute()}`,
      `NarHash: sha256:${encodeBase32(info.narSha256)}`,
      'NarSize: 1099511627776',
      `References: ${info.references[0]}`,
      `Deriver: ${info.deriver}.drv`,
      `Sig: key-1:${Buffer.from(info.signatures[0]!.data).toString('base64')}`,
      `CA: text:sha256:${encodeBase32(info.ca!.digest)}`,
      `Root: regular ${digestOf('')}`,
      '',
    ]);
  });

  test('with one path that is missing ends with 1', async () => {
    const { status } = await read('path-info', script, '0'.repeat(32));
    expect(status).toBe(1);
  });
});
