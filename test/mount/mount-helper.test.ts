import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { helperArguments } from '../../src/cli/mount-helper.ts';
import { CLI, run, tvixStore } from '../helpers/cli.ts';
import { tempDir } from '../helpers/temp.ts';

const HELPER = '/sbin/mount.fuse.tvix-store';
const dir = tempDir();
const store = `local://${dir}/store`;
const log = join(dir, 'log');
const isRoot = process.getuid!() === 0;
/** mount(8) looks for a helper in /sbin alone; one that somebody has installed is left alone. */
const isFree = isRoot && !lstatSync(HELPER, { throwIfNoEntry: false })?.isFile();
/** Where it gives them no PATH, there must be a Node that is new enough in the usual places, or below node_modules. */
const findsNode = spawnSync('env', ['-i', CLI, '--version']).status === 0;
if (!findsNode)
  console.warn('skipped: mount(8) gives its helpers no PATH, and they find no Node that is new enough');
const mounts: string[] = [];
let name: string;

beforeAll(async () => {
  writeFileSync(join(dir, 'file'), 'contents');
  const { stdout } = await tvixStore(['import', '--store', store, join(dir, 'file')]);
  name = stdout.trim().slice('/nix/store/'.length);
  if (!isFree) return;
  rmSync(HELPER, { force: true });
  symlinkSync(CLI, HELPER);
});

afterAll(async () => {
  for (const at of mounts) await run('umount', ['-l', at]);
  if (isFree && existsSync(HELPER) && readlinkSync(HELPER) === CLI) rmSync(HELPER);
});

function mountPoint(): string {
  const at = join(tempDir(), 'mnt');
  mkdirSync(at);
  mounts.push(at);
  return at;
}

/** Runs a program as at the start of a machine. mount(8) gives its helpers no environment at all. */
function asRoot(command: string, args: readonly string[]) {
  return run(command, args, {
    cwd: '/',
    env: { PATH: `${dirname(process.execPath)}:/usr/sbin:/usr/bin:/sbin:/bin` },
  });
}

/** A mount as the kernel tells it. */
function told(at: string): string | undefined {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .find((line) => line.includes(` ${at} `));
}

async function unmount(at: string): Promise<void> {
  expect(await asRoot('umount', [at])).toMatchObject({ status: 0, stderr: '' });
  expect(told(at)).toBe(undefined);
}

describe.runIf(isFree && findsNode)('mount(8)', () => {
  test('mounts a store by its type, with options of its own, of the kernel, and of ours', async () => {
    const at = mountPoint();
    const options = `ro,noexec,allow_other,list-root,uid=17,log-file=${log}`;
    const { status, stderr } = await asRoot('mount', ['-t', 'fuse.tvix-store', store, at, '-o', options]);
    expect([status, stderr]).toEqual([0, expect.stringContaining('info: mounted')]);
    expect((await run('cat', [join(at, name)])).stdout).toBe('contents');
    expect((await run('ls', ['-n', at])).stdout).toMatch(/ 17 +0 /);
    expect(told(at)).toMatch(new RegExp(`^${store} ${at} fuse\\.tvix-store \\S*\\bnoexec\\b`));
    await unmount(at);
  });

  test('mounts what stands in fstab, and nothing when it is mounted already', async () => {
    const at = mountPoint();
    const fstab = join(dir, 'fstab');
    const line = `${store} ${at} fuse.tvix-store ro,nofail,_netdev,x-systemd.automount,list-root,log-file=${log} 0 0\n`;
    writeFileSync(fstab, line);
    for (let i = 0; i < 2; i++) {
      const { status, stderr } = await asRoot('mount', ['-a', '-T', fstab, '-t', 'fuse.tvix-store']);
      expect([i, status, stderr]).toEqual([i, 0, i === 0 ? expect.stringContaining('info: mounted') : '']);
      expect((await run('ls', [at])).stdout).toBe(`${name}\n`);
    }
    await unmount(at);
    // By its mount point alone.
    expect((await asRoot('mount', ['-T', fstab, at])).status).toBe(0);
    await unmount(at);
  });

  test('reads what is far through the cache that the options name', async () => {
    const at = mountPoint();
    const options = `cache=${join(dir, 'cache')},cache-size=20M,log-file=${log}`;
    const { status, stderr } = await asRoot('mount', [
      '-t',
      'fuse.tvix-store',
      `cache://?near=memory%3A&far=${encodeURIComponent(store)}`,
      at,
      '-o',
      options,
    ]);
    expect([status, stderr]).toEqual([0, expect.stringContaining('info: mounted')]);
    expect((await run('cat', [join(at, name)])).stdout).toBe('contents');
    await unmount(at);
    expect(existsSync(join(dir, 'cache'))).toBe(true);
  });

  test.each([
    ['frobnicate', '-o frobnicate is not known'],
    ['cache-size=much', 'Write a size'],
    ['timeout=5s', '--timeout has no effect here'],
    ['remount', 'unmount and mount it again'],
  ])('is told why it cannot mount with -o %s', async (option, why) => {
    const at = mountPoint();
    const { status, stderr } = await asRoot('mount', ['-t', 'fuse.tvix-store', store, at, '-o', option]);
    expect(stderr).toContain(why);
    expect(status).not.toBe(0);
    expect(told(at)).toBe(undefined);
  });

  test('only looks with -f, and passes over what nobody knows with -s', async () => {
    const at = mountPoint();
    expect((await asRoot(HELPER, [store, at, '-f', '-o', 'rw'])).status).toBe(0);
    expect(told(at)).toBe(undefined);
    const sloppy = await asRoot(HELPER, [
      store,
      at,
      '-sv',
      '-t',
      'fuse.tvix-store',
      '-o',
      `rw,frobnicate,log-file=${log}`,
    ]);
    expect(sloppy.status).toBe(0);
    expect(told(at)).not.toBe(undefined);
    await unmount(at);
  });
});

/** Where a shell finds it without a PATH. */
const COMMAND = '/usr/local/bin/tvix-store';
const isAlone = isFree && existsSync('/sbin/mount.fuse3') && !lstatSync(COMMAND, { throwIfNoEntry: false });
test.runIf(isAlone && findsNode)(
  'with the helper of fuse3 it is enough that a shell finds tvix-store',
  async () => {
    const at = mountPoint();
    rmSync(HELPER);
    symlinkSync(CLI, COMMAND);
    try {
      const options = `ro,list-root,log-file=${log}`;
      const { status, stderr } = await asRoot('mount', ['-t', 'fuse.tvix-store', store, at, '-o', options]);
      expect([status, stderr]).toEqual([0, expect.stringContaining('info: mounted')]);
      expect((await run('ls', [at])).stdout).toBe(`${name}\n`);
      expect(told(at)).toMatch(new RegExp(`^${store} ${at} fuse\\.tvix-store ro,nosuid,nodev,`));
      await unmount(at);
    } finally {
      rmSync(COMMAND);
    }
  },
);

test('the arguments of mount(8) become those of tvix-store', () => {
  expect(
    helperArguments([
      ...['local:///s', '/mnt', '-n', '-o', 'rw,nosuid,user=me,x-a.b=c,list-root,cache=/c', '-o'],
      'context="a,b",defaults,relatime,sync,lazytime',
    ]),
  ).toEqual([
    ...['mount', '--background', '--store', 'local:///s', '-o', 'fsname="local:///s"'],
    ...['--list-root', '--cache=/c', '-o', 'nosuid', '-o', 'context="a,b"', '--', '/mnt'],
  ]);
  expect(helperArguments(['none', '/mnt', '-o', 'store-composition=/etc/x.toml'])).toEqual([
    ...['mount', '--background', '-o', 'fsname="none"', '--store-composition=/etc/x.toml', '--', '/mnt'],
  ]);
  expect(helperArguments(['none', '/mnt', '-f'])).toBe(undefined);
  expect(() => helperArguments(['none', '/mnt', '-z'])).toThrow("Unknown option '-z'");
});
