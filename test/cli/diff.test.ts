import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { tvixStore } from '../helpers/cli.ts';
import { countingDaemon } from '../helpers/counting-daemon.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import type { Tree } from '../helpers/trees.ts';
import { directory, file, symlink, writeTree } from '../helpers/trees.ts';

const dir = tempDir();
const store = `local://${dir}/store`;
const NOT_UTF8 = '\xff\xfe';
const same = directory({ deep: directory({ file: file(randomBytes(300_000, 'same')) }) });
let before = '';
let after = '';

async function put(name: string, tree: Tree): Promise<string> {
  writeTree(join(dir, name), tree);
  return (await tvixStore(['import', '--store', store, join(dir, name)])).stdout.trim();
}

async function diff(...args: string[]) {
  const { status, stdout, stderr } = await tvixStore(['diff', '--store', store, ...args]);
  return { status, stderr, lines: stdout.split('\n').filter((line) => line !== '') };
}

beforeAll(async () => {
  before = await put(
    'before',
    directory({
      bin: directory({ run: file('#!/bin/sh\n', true), lost: file('#!/bin/sh\n', true) }),
      dir: directory({ a: file('a'), 'new\nline': file('12345') }),
      kind: file('a file'),
      link: symlink('bin/run'),
      old: directory({ one: file('1'), two: directory({ three: file('333') }) }),
      same,
      [NOT_UTF8]: symlink(NOT_UTF8),
    }),
  );
  after = await put(
    'after',
    directory({
      bin: directory({ run: file('#!/bin/bash\n', true), lost: file('#!/bin/sh\n') }),
      dir: directory({ a: file('b'), 'new\nline': file('1234567', true) }),
      kind: directory({ within: file('x') }),
      link: symlink('bin/other'),
      new: file('something'),
      same,
      [NOT_UTF8]: symlink('\xfe'),
    }),
  );
});

describe('diff', () => {
  test('tells what was added, removed and changed, and how', async () => {
    expect(await diff(before, after)).toEqual({
      status: 0,
      stderr: '',
      lines: [
        'changed  bin/lost\tno longer executable',
        'changed  bin/run\t10 bytes became 12',
        'changed  dir/a\tother contents of 1 bytes',
        'changed  dir/new\\x0aline\t5 bytes became 7, now executable',
        'changed  kind\ta file became a directory',
        'changed  link\tbin/run became bin/other',
        'added    new',
        'removed  old/',
        'changed  \\xff\\xfe\t\\xff\\xfe became \\xfe',
      ],
    });
  });

  test('is the same from the other side', async () => {
    const { lines } = await diff(after, before);
    expect(lines).toContain('changed  bin/lost\tnow executable');
    expect(lines).toContain('removed  new');
    expect(lines).toContain('added    old/');
    expect(lines).toHaveLength(9);
  });

  test('lists what is in directories that only one of them has', async () => {
    const { lines } = await diff('-R', before, after);
    expect(lines.filter((line) => /kind|old/.test(line))).toEqual([
      'changed  kind\ta file became a directory',
      'added    kind/within',
      'removed  old/',
      'removed  old/one',
      'removed  old/two/',
      'removed  old/two/three',
    ]);
  });

  test('sums it up', async () => {
    const { lines } = await diff('--summary', before, after);
    expect(lines).toEqual(['2 added, 4 removed, 7 changed; their files had 36 B, and have 40 B']);
    const json = await diff('--summary', '--json', before, after);
    expect(JSON.parse(json.lines.join(''))).toEqual({
      added: 2,
      removed: 4,
      changed: 7,
      bytesBefore: 36,
      bytesAfter: 40,
    });
  });

  test('gives objects for programs, with names that are not UTF-8', async () => {
    const { lines } = await diff('--json', before, after);
    const changes = lines.map((line) => JSON.parse(line));
    expect(changes[0]).toEqual({
      change: 'changed',
      path: 'bin/lost',
      differs: ['executable'],
      before: { type: 'regular', size: 10, executable: true, digest: digestOf('#!/bin/sh\n') },
      after: { type: 'regular', size: 10, executable: false, digest: digestOf('#!/bin/sh\n') },
    });
    expect(changes.find(({ path }) => path === 'new')).toEqual({
      change: 'added',
      path: 'new',
      after: { type: 'regular', size: 9, executable: false, digest: digestOf('something') },
    });
    expect(changes.find(({ path }) => path === 'dir/new\nline').differs).toEqual(['contents', 'executable']);
    const bytes = Buffer.from(NOT_UTF8, 'latin1').toString('base64');
    expect(changes.at(-1)).toMatchObject({
      pathBase64: bytes,
      differs: ['target'],
      before: { type: 'symlink', targetBase64: bytes },
    });
  });

  test('compares places within store paths, by every form of a store path', async () => {
    const base = (path: string) => path.slice('/nix/store/'.length);
    expect((await diff(`${base(before)}/dir`, `${base(after).slice(0, 32)}/dir/`)).lines).toEqual([
      'changed  a\tother contents of 1 bytes',
      'changed  new\\x0aline\t5 bytes became 7, now executable',
    ]);
    expect((await diff(`${before}/same`, `${after}/same`)).lines).toEqual([]);
    expect((await diff(`${before}/kind`, `${after}/new`)).lines).toEqual(['changed  .\t6 bytes became 9']);
    expect((await diff(before, `${after}/new`)).lines).toEqual(['changed  .\ta directory became a file']);
    expect(await diff(before, `${after}/none`)).toEqual({
      status: 1,
      stderr: `error: ${after} has no none\n`,
      lines: [],
    });
  });

  test('ends with 0 either way, and with --exit-code by whether something differs', async () => {
    expect((await diff(before, before)).status).toBe(0);
    expect((await diff('--exit-code', before, before)).status).toBe(0);
    expect((await diff('--exit-code', before, after)).status).toBe(1);
    expect((await diff('--exit-code', '--summary', before, after)).status).toBe(1);
  });

  test('fetches from a daemon the directories that differ, each once, and no contents', async () => {
    const daemon = await countingDaemon(join(dir, 'store'));
    try {
      const there = await tvixStore(['diff', '--store', daemon.url, before, after]);
      const here = await diff(before, after);
      expect(there.stdout.trimEnd().split('\n')).toEqual(here.lines);
      // Of the roots, of bin and of dir.
      expect(new Set(daemon.directories).size).toBe(6);
      expect(daemon.directories).toHaveLength(6);
      expect(daemon.blobs).toEqual({});
    } finally {
      await daemon.stop();
    }
  });

  test('of two large trees asks for what differs many at a time, and tells it in order', async () => {
    const large = (changed: string) =>
      directory(
        Object.fromEntries(
          Array.from({ length: 300 }, (_, i) => [
            `d${i}`,
            directory({ same: file(`${i}`), other: file(i % 2 ? 'x' : `${changed}${i}`) }),
          ]),
        ),
      );
    const [one, other] = [await put('large-1', large('a')), await put('large-2', large('b'))];
    const { lines } = await diff('--json', one, other);
    const paths = lines.map((line) => JSON.parse(line).path);
    expect(paths).toEqual(
      Array.from({ length: 150 }, (_, i) => `d${2 * i}/other`).sort((a, b) =>
        Buffer.compare(Buffer.from(a), Buffer.from(b)),
      ),
    );
  });
});

function digestOf(contents: string): string {
  return Digest.hash(Buffer.from(contents)).toString();
}
