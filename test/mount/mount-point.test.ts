import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CLI, printedBy, ROOT, run, start, startTvixStore, tvixStore } from '../helpers/cli.ts';
import { startDaemon, startNarBridge } from '../helpers/daemon.ts';
import type { TestMount } from '../helpers/mount.ts';
import { DRIVERS, endLater, mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';

const NOBODY = 65534;
const dir = tempDir();
const store = `local://${dir}/store`;
let name: string;

beforeAll(async () => {
  writeFileSync(join(dir, 'file'), 'contents');
  const { stdout } = await tvixStore(['import', '--store', store, join(dir, 'file')]);
  name = stdout.trim().slice('/nix/store/'.length);
});

function newDirectory(called: string): string {
  const path = join(tempDir(), called);
  mkdirSync(path);
  return path;
}

/** Mounts of ours at a path, as they stand in the table. */
function mountsOn(path: string): number {
  const escaped = path.replace(/[ \t\n\\]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`);
  return readFileSync('/proc/self/mounts', 'utf8').split(` ${escaped} `).length - 1;
}

describe.each(DRIVERS)('driver %s', (driver) => {
  const args = ['--store', store, '--driver', driver];

  test.each(['größer 日本語', 'tab\tand\nline', 'back\\slash\\040', '#hash', '-o', 'comma,and"quote"'])(
    'mounts on %j, refuses a second time, unmounts, cleans up',
    async (called) => {
      const at = newDirectory(called);
      const killed = await mount(args, at);
      const again = await tvixStore(['mount', ...args, at]);
      expect([again.status, again.stderr]).toEqual([1, expect.stringContaining('is mounted on')]);
      expect(mountsOn(at)).toBe(1);
      await killed.stop('SIGKILL');
      const mounted = await mount(args, at);
      expect((await run('cat', [join(at, name)])).stdout).toBe('contents');
      expect((await mounted.stop()).status).toBe(0);
      expect(mountsOn(at)).toBe(0);
    },
  );

  test('of two that begin at the same moment one mounts and the other is refused', async () => {
    const at = newDirectory('mnt');
    for (let i = 0; i < 3; i++) {
      const children = [0, 1].map(() => {
        const child = spawn(process.execPath, [CLI, 'mount', ...args, at], {
          stdio: ['ignore', 'ignore', 'pipe'],
        });
        endLater(child, at);
        return { child, printed: printedBy(child), ended: once(child, 'close') };
      });
      const [loser] = await Promise.race(
        children.map(async (one) => {
          await one.ended;
          return [one];
        }),
      );
      const winner = children.find((one) => one !== loser)!;
      expect([loser!.child.exitCode, loser!.printed.stderr]).toEqual([
        1,
        expect.stringMatching(/^error: .*mount/m),
      ]);
      await expect.poll(() => winner.printed.stderr, { timeout: 20_000 }).toContain('info: mounted');
      expect(mountsOn(at)).toBe(1);
      expect((await run('cat', [join(at, name)])).stdout).toBe('contents');
      winner.child.kill('SIGTERM');
      await winner.ended;
      expect([winner.child.exitCode, mountsOn(at)]).toEqual([0, 0]);
    }
  });

  test('on a mount whose process is stopped it says so, and the mount goes on when that does', async () => {
    const mounted = await mount(args);
    process.kill(mounted.pid, 'SIGSTOP');
    try {
      const { status, stderr } = await tvixStore(['mount', ...args, mounted.dir], { timeout: 20_000 });
      expect([status, stderr]).toEqual([1, expect.stringContaining('does not answer')]);
    } finally {
      process.kill(mounted.pid, 'SIGCONT');
    }
    expect((await run('cat', [join(mounted.dir, name)])).stdout).toBe('contents');
    expect((await mounted.stop()).status).toBe(0);
  });
});

describe('a mount that would hide its own data is refused', () => {
  const refused = async (args: string[], at: string) => {
    const { status, stderr } = await tvixStore(['mount', ...args, at], { timeout: 20_000 });
    expect([status, stderr]).toEqual([1, expect.stringContaining('would be hidden')]);
    expect(mountsOn(at)).toBe(0);
  };

  test('a store in its mount point, or at it', async () => {
    const at = newDirectory('mnt');
    const within = `local://${at}/deep/store`;
    await tvixStore(['import', '--store', within, join(dir, 'file')]);
    await refused(['--store', within], at);
    await refused(['--store', within], join(at, 'deep'));
    await refused(['--store', within], join(at, 'deep/store'));
    // What only begins with the same name is elsewhere.
    mkdirSync(join(at, 'deep/st'));
    const mounted = await mount(['--store', within], join(at, 'deep/st'));
    expect((await mounted.stop()).status).toBe(0);
  });

  test('a cache in its mount point', async () => {
    const at = newDirectory('mnt');
    const daemon = await startDaemon(store);
    await refused(['--store', daemon.url, '--cache', join(at, 'cache')], at);
  });

  test('a part of a store in its mount point', async () => {
    const at = newDirectory('mnt');
    const address = `cache://?near=${encodeURIComponent(`local://${at}/near`)}&far=${encodeURIComponent(store)}`;
    await refused(['--store', address, '--cache', join(tempDir(), 'cache')], at);
  });
});

test('a mount that hides the program itself fetches all the same', async () => {
  const at = newDirectory('mnt');
  for (const part of ['dist', 'package.json']) cpSync(join(ROOT, part), join(at, part), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(at, 'node_modules'));
  const tree = join(tempDir(), 'tree');
  // So large that hashing and cutting have threads of their own elsewhere.
  mkdirSync(tree);
  writeFileSync(join(tree, 'large'), randomBytes(20_000_000, 'large'));
  const { stdout } = await tvixStore(['import', '--store', store, tree]);
  const bridge = await startNarBridge(store);
  const args = [
    'mount',
    '--store',
    `nix+http://127.0.0.1:${bridge.port}?trusted=1`,
    '--cache',
    join(tempDir(), 'cache'),
    at,
  ];
  const child = await start(process.execPath, [join(at, 'dist/cli/main.js'), ...args], 'info: mounted');
  endLater(child, at);
  const path = join(at, stdout.trim().slice('/nix/store/'.length));
  expect((await run('diff', ['-r', tree, path], { timeout: 50_000 })).stderr).toBe('');
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  expect(await ended).toEqual([0, null]);
});

/** Whether an ordinary user could run this program and mount. */
async function nobodyCan(): Promise<boolean> {
  if (process.getuid!() !== 0) return false;
  const user = { uid: NOBODY, gid: NOBODY };
  const [ours, helper] = await Promise.all([
    run(process.execPath, [CLI, '--help'], user),
    run('fusermount3', ['--version'], user).catch(() => ({ status: 1 })),
  ]);
  return ours.status === 0 && helper.status === 0;
}

describe.runIf(await nobodyCan())('for an ordinary user', () => {
  const home = tempDir();
  const user = { uid: NOBODY, gid: NOBODY };
  let deviceMode = 0;

  beforeAll(() => {
    deviceMode = statSync('/dev/fuse').mode & 0o7777;
    chmodSync('/dev/fuse', 0o666);
    for (const readable of [home, dir]) chmodSync(readable, 0o755);
  });
  afterAll(() => chmodSync('/dev/fuse', deviceMode));

  const own = (called: string) => {
    const path = join(home, called);
    mkdirSync(path);
    chownSync(path, NOBODY, NOBODY);
    return path;
  };

  async function ends(mounted: TestMount): Promise<void> {
    const { status, took } = await mounted.stop();
    expect([status, mountsOn(mounted.dir)]).toEqual([0, 0]);
    expect(took).toBeLessThan(20_000);
  }

  test('it is unmounted although PATH leads into the mount, which would first have to be fetched', async () => {
    const daemon = await startDaemon(store);
    const at = own('into');
    // Not a store path that is known: whoever looks for a program in it has it looked up far away.
    const folder = join(at, `${'0'.repeat(32)}-programs/bin`);
    const env = { HOME: home, PATH: `${folder}:${process.env.PATH}` };
    const args = ['--store', daemon.url, '--cache', join(own('into-cache'), 'cache')];
    const mounted = await mount(args, at, { ...user, env });
    expect((await run('cat', [join(at, name)], user)).stdout).toBe('contents');
    daemon.child.kill('SIGSTOP');
    try {
      await ends(mounted);
    } finally {
      daemon.child.kill('SIGCONT');
    }
  });

  test('it is mounted although PATH leads into another mount, whose process is stopped', async () => {
    const other = await mount(['--store', store, '-o', 'allow_other']);
    const stored = `local://${own('stopped-data')}/store`;
    const env = { HOME: home, PATH: process.env.PATH };
    expect((await tvixStore(['import', '--store', stored, join(dir, 'file')], { ...user, env })).status).toBe(
      0,
    );
    process.kill(other.pid, 'SIGSTOP');
    try {
      const leading = {
        HOME: home,
        PATH: `${join(other.dir, `${'0'.repeat(32)}-programs/bin`)}:${process.env.PATH}`,
      };
      const mounted = await mount(['--store', stored], own('stopped'), { ...user, env: leading });
      expect((await run('cat', [join(mounted.dir, name)], user)).stdout).toBe('contents');
      await ends(mounted);
    } finally {
      process.kill(other.pid, 'SIGCONT');
    }
    expect((await other.stop()).status).toBe(0);
  });

  test('it is unmounted although the signal that ends it went to all of its processes', async () => {
    const at = own('group');
    const env = { HOME: home, PATH: process.env.PATH };
    const stored = `local://${own('group-data')}/store`;
    expect((await tvixStore(['import', '--store', stored, join(dir, 'file')], { ...user, env })).status).toBe(
      0,
    );
    const child = await startTvixStore(['mount', '--store', stored, at], 'info: mounted', { ...user, env });
    endLater(child, at);
    const { stdout } = await run('pgrep', ['-P', String(child.pid)]);
    const ended = once(child, 'exit');
    for (const pid of [...stdout.trim().split('\n').map(Number), child.pid!]) process.kill(pid, 'SIGTERM');
    expect(await ended).toEqual([0, null]);
    expect(mountsOn(at)).toBe(0);
  });

  test('nothing is left behind when somebody else unmounts it', async () => {
    const at = own('else');
    const env = { HOME: home, PATH: process.env.PATH };
    const stored = `local://${own('else-data')}/store`;
    expect((await tvixStore(['import', '--store', stored, join(dir, 'file')], { ...user, env })).status).toBe(
      0,
    );
    const child = await startTvixStore(['mount', '--store', stored, at], 'info: mounted', { ...user, env });
    endLater(child, at);
    const ended = once(child, 'exit');
    expect((await run('fusermount3', ['-u', at], user)).status).toBe(0);
    expect(await ended).toEqual([0, null]);
    await expect.poll(async () => (await run('pgrep', ['-f', at])).stdout, { timeout: 20_000 }).toBe('');
  });
});
