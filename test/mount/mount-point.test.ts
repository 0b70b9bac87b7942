import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { CLI, printedBy, ROOT, run, start, tvixStore } from '../helpers/cli.ts';
import { startDaemon, startNarBridge } from '../helpers/daemon.ts';
import { DRIVERS, endLater, mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';

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

test('a name that is not UTF-8 is refused as such', async () => {
  const at = `${tempDir()}/$(printf '\\377')`;
  const { status, stderr } = await run('sh', [
    '-c',
    `mkdir "${at}" && exec ${process.execPath} ${CLI} mount --store ${store} "${at}"`,
  ]);
  expect([status, stderr]).toEqual([1, expect.stringContaining('not UTF-8')]);
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
