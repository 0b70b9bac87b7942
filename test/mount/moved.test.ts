import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CLI, run, tvixStore } from '../helpers/cli.ts';
import { DRIVERS, mount } from '../helpers/mount.ts';
import { tempDir } from '../helpers/temp.ts';

const dir = tempDir();
const store = `local://${dir}/store`;
let name: string;

beforeAll(async () => {
  writeFileSync(join(dir, 'file'), 'contents');
  const { stdout } = await tvixStore(['import', '--store', store, join(dir, 'file')]);
  name = stdout.trim().slice('/nix/store/'.length);
  // What lies on it can be moved, also where everything else is shared with other namespaces.
  await run('mount', ['-t', 'tmpfs', 'tmpfs', place]);
  await run('mount', ['--make-private', place]);
});

const place = tempDir();
afterAll(() => run('umount', ['-Rl', place]));

/** Ours, or our places for them, in the table of mounts. */
function mountsBelow(path: string): string[] {
  const lines = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  return lines.flatMap((line) => line.split(' ')[1] ?? []).filter((at) => at.startsWith(`${path}/`));
}

let made = 0;
/** A mount point in a folder of its own. */
function newPlace(): { readonly folder: string; readonly at: string } {
  const folder = join(place, String(made++));
  const at = join(folder, 'mnt');
  mkdirSync(at, { recursive: true });
  return { folder, at };
}

describe.each(DRIVERS)('driver %s', (driver) => {
  const args = ['--store', store, '--driver', driver];

  test('goes on when a folder above it is renamed, and leaves nothing at the end', async () => {
    const { folder, at } = newPlace();
    const mounted = await mount(args, at);
    const now = `${folder}-renamed`;
    renameSync(folder, now);
    // Another mount where it was is not for it to unmount.
    mkdirSync(at, { recursive: true });
    await run('mount', ['-t', 'tmpfs', 'tmpfs', at]);
    expect((await run('cat', [join(now, 'mnt', name)])).stdout).toBe('contents');
    expect((await mounted.stop()).status).toBe(0);
    expect([mountsBelow(now), mountsBelow(folder)]).toEqual([[], [at]]);
  });

  test('goes on when it is moved, and leaves nothing at the end', async () => {
    const { folder, at } = newPlace();
    const mounted = await mount(args, at);
    mkdirSync(join(folder, 'there'));
    expect((await run('mount', ['--move', at, join(folder, 'there')])).status).toBe(0);
    expect((await run('cat', [join(folder, 'there', name)])).stdout).toBe('contents');
    expect((await mounted.stop()).status).toBe(0);
    expect(mountsBelow(folder)).toEqual([]);
  });

  test('serves whoever has it elsewhere, and ends with the last one', async () => {
    const { folder, at } = newPlace();
    const mounted = await mount(args, at);
    const ended = once(mounted.child, 'exit');
    const copy = join(folder, 'copy');
    mkdirSync(copy);
    await run('mount', ['--bind', at, copy]);
    await run('umount', [at]);
    // Longer than it may take to see that it has gone from where it was mounted.
    await new Promise((resolve) => setTimeout(resolve, 1200));
    expect((await run('cat', [join(copy, name)])).stdout).toBe('contents');
    await run('umount', [copy]);
    expect(await ended).toEqual([0, null]);
  });

  test('ends, and is gone, when somebody cuts it off while it is in use', async () => {
    const { folder, at } = newPlace();
    const mounted = await mount([...args, '--list-root'], at);
    const ended = once(mounted.child, 'exit');
    const user = spawn('sleep', ['60'], { cwd: at, stdio: 'ignore' });
    try {
      await once(user, 'spawn');
      await run('umount', ['-f', at]);
      expect(await ended).toEqual([0, null]);
      expect(mountsBelow(folder)).toEqual([]);
    } finally {
      user.kill();
    }
  });

  test('leaves alone what somebody has mounted over it, and says so', async () => {
    const { folder, at } = newPlace();
    const mounted = await mount(args, at);
    await run('mount', ['-t', 'tmpfs', 'tmpfs', at]);
    const { status, log } = await mounted.stop();
    expect([status, log]).toEqual([0, expect.stringContaining('something is mounted over the mount')]);
    expect(mountsBelow(folder)).toEqual([at, at]);
  });

  test('unmounts and ends when it can open no file any more', async () => {
    const { folder, at } = newPlace();
    const mounted = await mount(args, at);
    await run('prlimit', ['--pid', String(mounted.pid), '--nofile=3:3']);
    const { status } = await mounted.stop();
    expect([status, mountsBelow(folder)]).toEqual([0, []]);
  });

  test.each(['/proc', '/dev'])('is refused on %s, which it needs', async (at) => {
    // In a namespace of its own, where it does no harm if it is not.
    const { status, stderr } = await run(
      'unshare',
      ['-m', '--propagation', 'private', process.execPath, CLI, 'mount', ...args, at],
      { timeout: 20_000 },
    );
    expect([status, stderr]).toEqual([1, expect.stringContaining('would be hidden')]);
  });
});

test('a mount that libfuse fails to complete leaves nothing behind', async () => {
  const { folder, at } = newPlace();
  const args = ['--store', store, '--driver', 'fuse-native', '-o', 'nosymfollow'];
  const { status, stderr } = await tvixStore(['mount', ...args, at]);
  expect([status, stderr]).toEqual([1, expect.stringContaining(`cannot mount on ${at} with nosymfollow: `)]);
  expect(mountsBelow(folder)).toEqual([]);
});

test('an empty mount point is not the working directory', async () => {
  const { status, stderr } = await tvixStore(['mount', '--store', store, ''], { cwd: newPlace().at });
  expect([status, stderr]).toEqual([2, expect.stringContaining('DIRECTORY is empty')]);
});
