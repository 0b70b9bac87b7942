import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { forAllAsync } from '../helpers/arbitraries.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import { DRIVERS, mount } from '../helpers/mount.ts';
import { tempDir } from '../helpers/temp.ts';

/** Prints the results of file operations. */
const OPERATIONS = join(import.meta.dirname, 'operations.py');

/** Equal files in several places, empty ones, links, a program, and a file of several chunks. */
function makeTree(dir: string): void {
  mkdirSync(join(dir, 'sub/deep'), { recursive: true });
  for (const name of ['a', 'b', 'sub/c', 'sub/deep/d']) writeFileSync(join(dir, name), 'the same');
  for (const name of ['empty', 'sub/empty', 'sub/deep/empty']) writeFileSync(join(dir, name), '');
  for (const name of ['run', 'sub/run']) {
    writeFileSync(join(dir, name), '#!/bin/sh\necho ran\n');
    chmodSync(join(dir, name), 0o755);
  }
  writeFileSync(join(dir, 'large'), Buffer.alloc(700_000, 'large '));
  symlinkSync('a', join(dir, 'link'));
  symlinkSync('nowhere', join(dir, 'dangling'));
  symlinkSync('loop', join(dir, 'loop'));
}

/** Scripts that are tried with each driver. */
const RUNS = Number(process.env.OVERLAY_RUNS ?? 15);

const paths = fc.constantFrom(
  ...['a', 'b', 'sub', 'sub/c', 'sub/deep', 'sub/deep/d', 'empty', 'sub/empty', 'sub/deep/empty'],
  ...['run', 'sub/run', 'large', 'link', 'dangling', 'loop', 'new', 'other', 'sub/new', 'sub/deep/new'],
);
const short = fc.constantFrom('x', 'other contents', '');
const operations = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(fc.constant('write'), paths, fc.constantFrom(0, 3, 600_000), short) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('append'), paths, short) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('mapped'), paths) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('truncate'), paths, fc.constantFrom(0, 4, 1000)) },
  { weight: 3, arbitrary: fc.tuple(fc.constant('chmod'), paths, fc.constantFrom(0o700, 0o444, 0o555)) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('chown'), paths, fc.constantFrom(0, 7)) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('utime'), paths) },
  { weight: 3, arbitrary: fc.tuple(fc.constant('rename'), paths, paths) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('exchange'), paths, paths) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('link'), paths, paths) },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom('unlink', 'rmdir', 'mkdir'), paths) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('create'), paths, short) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('symlink'), fc.constantFrom('a', 'sub'), paths) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('lock'), paths, paths) },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom('reread', 'list', 'lstat', 'readlink'), paths) },
);

/** Options of an overlay, in combinations that it takes. */
const options = fc.constantFrom(
  'index=off',
  'index=on,xino=on',
  'index=on,nfs_export=on,redirect_dir=on',
  'index=on,metacopy=on,redirect_dir=on,xino=auto',
  'index=off,metacopy=on,redirect_dir=on,xino=off',
  'redirect_dir=on,xino=on',
);

/** Overlays keep what was changed on a file system of memory. */
const upper = tempDir();

beforeAll(() => {
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', upper]);
});

afterAll(() => {
  spawnSync('umount', ['-l', upper]);
});

/** What operations print in an overlay, and what is there when it is mounted anew. */
interface Printed {
  readonly before: string[];
  readonly after: string[];
}

/** Mounts an overlay. With an index, the kernel may not yet have let go of the one before it. */
async function mountOverlay(layers: string, top: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const { status, stderr } = await run('mount', ['-t', 'overlay', 'overlay', '-o', layers, top]);
    if (status === 0) return;
    if (!stderr.includes('busy') || performance.now() > deadline) throw new Error(stderr);
    await delay(100);
  }
}

/** Runs operations in an overlay over a directory. */
async function through(lower: string, chosen: string, script: string): Promise<Printed> {
  const dir = mkdtempSync(join(upper, 'overlay-'));
  const [top, changes, work] = ['top', 'changes', 'work'].map((name) => {
    const path = join(dir, name);
    mkdirSync(path);
    return path;
  });
  const file = join(dir, 'script');
  const printed: string[][] = [];
  for (const operations of [script, '[]']) {
    writeFileSync(file, operations);
    const layers = `lowerdir=${lower},upperdir=${changes},workdir=${work},${chosen}`;
    await mountOverlay(layers, top!);
    try {
      const { status, stdout, stderr } = await run('python3', [OPERATIONS, top!, '--script', file]);
      if (status !== 0) throw new Error(stderr);
      printed.push(stdout.split('\n'));
    } finally {
      execFileSync('umount', [top!]);
    }
  }
  rmSync(dir, { recursive: true });
  return { before: printed[0]!, after: printed[1]! };
}

/** An overlay for NFS keeps a link of its own to what was changed, unless below it nothing has file handles. */
function withoutLinks(lines: readonly string[], chosen: string): string[] {
  return lines.map((line) => (chosen.includes('nfs_export') ? line.replace(/"links": \d+/, '') : line));
}

const SAME_AS = /"same as": "((?:[^"\\]|\\.)*)"/;

/**
 * Without file handles below it, an overlay shows the links of a file under several inode numbers until it is mounted
 * anew: then a name is at least never the same file as one that it should not be.
 */
function withoutOwnNumbers(got: readonly string[], wanted: readonly string[]): string[] {
  return got.map((line, i) => {
    const [same] = SAME_AS.exec(wanted[i] ?? '') ?? [];
    const isItself = line.includes(`"at the end", "${SAME_AS.exec(line)?.[1]}"`);
    return same && isItself ? line.replace(SAME_AS, same) : line;
  });
}

describe.each(DRIVERS)('driver %s', (driver) => {
  let mounted: string;
  /** The same tree on the file system of this machine. */
  let plain: string;

  beforeAll(async () => {
    const [source, store] = [join(tempDir(), 'tree'), `local://${tempDir()}/store`];
    mkdirSync(source);
    makeTree(source);
    const { stdout } = await tvixStore(['import', '--store', store, source]);
    const { dir } = await mount(['--store', store, '--driver', driver]);
    mounted = join(dir, stdout.trim().slice('/nix/store/'.length));
    const realised = await tvixStore(['realise', '--store', store, stdout.trim(), tempDir()]);
    expect(realised.status).toBe(0);
    plain = realised.stdout.trim();
  });

  test('answers every operation as a file system on a disk does', async () => {
    const bound = tempDir();
    execFileSync('mount', ['--bind', plain, bound]);
    try {
      execFileSync('mount', ['-o', 'remount,bind,ro', bound]);
      const [wanted, got] = await Promise.all(
        [bound, mounted].map((dir) => run('python3', [OPERATIONS, dir])),
      );
      expect(got!.stdout.split('\n')).toEqual(wanted!.stdout.split('\n'));
      expect(wanted!.stdout.split('\n').length).toBeGreaterThan(500);
    } finally {
      execFileSync('umount', [bound]);
    }
  });

  test(
    'an overlay over it does what one over a disk does, whatever is changed',
    async () => {
      const cases = fc.tuple(fc.array(operations, { maxLength: 40 }), options);
      await forAllAsync(
        cases,
        async ([script, chosen]) => {
          const text = JSON.stringify(script);
          const [wanted, got] = [await through(plain, chosen, text), await through(mounted, chosen, text)];
          const before = withoutOwnNumbers(got.before, wanted.before);
          expect(withoutLinks(before, chosen)).toEqual(withoutLinks(wanted.before, chosen));
          expect(withoutLinks(got.after, chosen)).toEqual(withoutLinks(wanted.after, chosen));
        },
        RUNS,
      );
    },
    60_000 + RUNS * 5000,
  );
});
