import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { run, tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { start } from '../helpers/gated-mount.ts';
import type { TestMount } from '../helpers/mount.ts';
import { mount } from '../helpers/mount.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { checkLocalStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const FILES = 20;
const LARGE = 8 << 20;
/** How long a daemon takes to restart, in milliseconds. */
const RESTART_MS = 8000;

const dir = tempDir();
const tree = join(dir, 'tree');
const store = `local://${dir}/store`;
let daemon: TestDaemon;
let proxy: TcpProxy;
let name: string;

beforeAll(async () => {
  mkdirSync(join(tree, 'sub'), { recursive: true });
  for (let i = 0; i < FILES; i++)
    writeFileSync(join(tree, 'sub', `file-${i}`), randomBytes(2000, `file ${i}`));
  // Each in a directory of its own, so that it does not come along with another.
  for (const one of ['a', 'b', 'c']) {
    mkdirSync(join(tree, one));
    writeFileSync(join(tree, one, 'file'), randomBytes(2000, one));
  }
  writeFileSync(join(tree, 'large'), randomBytes(LARGE, 'large'));
  const { stdout } = await tvixStore(['import', '--store', store, tree]);
  name = stdout.trim().slice('/nix/store/'.length);
  daemon = await startDaemon(store);
  proxy = await TcpProxy.start(daemon.port);
});
afterAll(async () => {
  await daemon.stop('SIGKILL');
});
beforeEach(() => {
  proxy.flow();
  proxy.target = daemon.port;
  proxy.rate = Number.POSITIVE_INFINITY;
});

/** Ends the daemon, and starts it again after a while. */
async function restart(afterMs: number): Promise<void> {
  await daemon.stop('SIGKILL');
  await delay(afterMs);
  daemon = await startDaemon(store);
  proxy.target = daemon.port;
}

/** The path in a new mount with a new cache, after something of it was read. */
async function mounted(...args: string[]): Promise<TestMount & { path: string }> {
  const made = await mount(['--store', proxy.url, '--cache', join(tempDir(), 'cache'), ...args]);
  const path = join(made.dir, name);
  expect((await run('cat', [join(path, 'sub/file-0')])).status).toBe(0);
  return { ...made, path };
}

const difference = (path: string) => run('diff', ['-r', tree, path]);
const NONE = { status: 0, stdout: '', stderr: '' };

describe('a store that is away', () => {
  test('and comes back in time costs its readers nothing but time', async () => {
    const there = await mounted();
    const restarting = restart(RESTART_MS);
    await delay(100);
    expect(await difference(there.path)).toEqual(NONE);
    await restarting;
    expect(there.log()).toContain('the store is away; trying again');
    expect(there.log()).toContain('the store is back');
    expect((await there.stop()).status).toBe(0);
  });

  test('for longer than --timeout is an error, which the log explains', async () => {
    const there = await mounted('--timeout', '6s');
    const ended = delay(0).then(() => restart(20_000));
    await delay(300);
    const begun = Date.now();
    const { stderr } = await run('cat', [join(there.path, 'sub/file-1')]);
    expect(stderr).toContain('Input/output error');
    expect(Date.now() - begun).toBeGreaterThan(5500);
    expect(Date.now() - begun).toBeLessThan(18_000);
    expect(there.log()).toMatch(/nothing arrived for 6 s: .*the connection is refused|hang up|breaks off/);
    await ended;
    expect((await run('cat', [join(there.path, 'sub/file-1')])).status).toBe(0);
    expect((await there.stop()).status).toBe(0);
  });

  test.each([{ flags: ['--hard'] }, { flags: ['--timeout', '0'] }])(
    'is waited for with %j, by who wants to',
    async ({ flags }) => {
      const there = await mounted(...flags);
      proxy.target = 1;
      proxy.reset();
      const waiting = start('cat', join(there.path, 'a/file'));
      const leaving = start('cat', join(there.path, 'b/file'));
      await delay(5000);
      expect([waiting.done(), leaving.done()]).toEqual([false, false]);
      leaving.child.kill('SIGINT');
      expect(await leaving.ended).toMatchObject({ signal: 'SIGINT' });
      proxy.target = daemon.port;
      expect((await waiting.ended).stdout.length).toBeGreaterThan(0);
      // Nor does one that waits keep the mount.
      proxy.target = 1;
      proxy.reset();
      const left = start('cat', join(there.path, 'c/file'));
      await delay(1000);
      const { status, took } = await there.stop();
      expect([status, took < 10_000]).toEqual([0, true]);
      expect((await left.ended).status).not.toBe(0);
      proxy.target = daemon.port;
    },
  );

  test('without a word, and there again, is found again within seconds', async () => {
    const there = await mounted();
    proxy.forget();
    const begun = Date.now();
    expect(await difference(there.path)).toEqual(NONE);
    expect(Date.now() - begun).toBeLessThan(10_000);
    await there.stop();
  });

  test('is done without where another has the same', async () => {
    const second = await startDaemon(store);
    const other = await TcpProxy.start(second.port);
    const there = await mounted('--store', other.url);
    expect(other.connections).toBe(0);
    proxy.forget();
    proxy.stall();
    expect((await run('cat', [join(there.path, 'a/file')])).status).toBe(0);
    await daemon.stop('SIGKILL');
    expect(await difference(there.path)).toEqual(NONE);
    await restart(0);
    await second.stop('SIGKILL');
    expect(await difference(there.path)).toEqual(NONE);
    expect(there.log()).toContain(`store="${proxy.url}, ${other.url}"`);
    await there.stop();
  });

  test('fails at its beginning a command that is not for long, and costs it nothing later', async () => {
    proxy.rate = 3 << 20;
    const before = proxy.down;
    const to = join(tempDir(), 'to');
    const copying = tvixStore(['copy', '--from', proxy.url, '--to', `local://${to}`, name]);
    const reading = run('sh', [
      '-c',
      `exec "$@" | sha256sum`,
      'sh',
      process.execPath,
      ...catLarge(proxy.url),
    ]);
    while (proxy.down - before < LARGE / 4) await delay(20);
    await restart(RESTART_MS);
    expect(await copying).toMatchObject({ status: 0 });
    expect(await checkLocalStore(to)).toEqual([`/nix/store/${name}`]);
    expect((await reading).stdout).toBe(
      (await run('sh', ['-c', 'sha256sum < "$1"', 'sh', join(tree, 'large')])).stdout,
    );

    proxy.target = 1;
    const begun = Date.now();
    const { status, stderr } = await tvixStore(['cat', '--store', proxy.url, `${name}/large`]);
    expect([status, stderr]).toEqual([1, expect.stringContaining(proxy.url)]);
    expect(Date.now() - begun).toBeLessThan(15_000);
    proxy.target = daemon.port;
  });
});

function catLarge(url: string): string[] {
  return [join(import.meta.dirname, '../../dist/cli/main.js'), 'cat', '--store', url, `${name}/large`];
}
