import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, onTestFailed, test } from 'vitest';
import type { Started } from '../helpers/cli.ts';
import { CLI, run, start, tvixStore } from '../helpers/cli.ts';
import { openAt, startDaemon, startNarBridge } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { readBlob } from '../helpers/services.ts';
import { stuckWriter } from '../helpers/stuck-writer.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

/** Much longer than anything takes that does not wait for the writer; well below what a lock is waited for. */
const SOON_MS = 15_000;

async function imported(): Promise<{ dir: string; store: string; tree: string; path: string }> {
  const dir = join(tempDir(), 'store');
  const tree = join(tempDir(), 'tree');
  writeTree(tree, directory({ a: file(randomBytes(300_000, 'a')), b: file('b') }));
  const store = `local://${dir}`;
  const { status, stdout, stderr } = await tvixStore(['import', '--store', store, tree]);
  expect(status, stderr).toBe(0);
  return { dir, store, tree, path: stdout.trim() };
}

/** Runs a command that must end soon. */
const soon = (args: readonly string[]) => tvixStore(args, { timeout: SOON_MS });

describe('while a writer is stopped in the middle of a transaction', () => {
  test('commands that read do not wait', async () => {
    const { dir, store, path } = await imported();
    const writer = await stuckWriter(dir);
    const commands = [
      ['ls'],
      ['path-info', path],
      ['cat', `${path}/b`],
      ['nar', 'ls', path],
      ['realise', path, tempDir()],
      ['copy', '--to', 'memory://', '--all', '--from', store],
      ['verify', '--all'],
      ['stats'],
      ['root', 'list'],
      ['fsck'],
    ];
    for (const [command, ...args] of commands) {
      const flags = command === 'copy' ? [] : ['--store', store];
      expect([command, await soon([command!, ...args, ...flags])]).toMatchObject([command, { status: 0 }]);
    }
    await writer.release();
  });

  test('a mount serves what is there, is mounted and stopped', async () => {
    const { dir, store, tree, path } = await imported();
    const before = await mount(['--store', store]);
    const writer = await stuckWriter(dir);
    const mounted = await mount(['--store', store]);
    for (const one of [before, mounted]) {
      const there = join(one.dir, path.slice(path.lastIndexOf('/') + 1));
      expect(await run('diff', ['-r', tree, there], { timeout: SOON_MS })).toMatchObject({ status: 0 });
      const { status, took } = await one.stop();
      expect([status, took < SOON_MS]).toEqual([0, true]);
    }
    await writer.release();
  });

  test('a mount serves what it fetches, though its cache cannot be filled, and is stopped', async () => {
    const { store, tree, path } = await imported();
    const daemon = await startDaemon(store);
    const cache = tempDir();
    const mounted = await mount(['--store', daemon.url, '--cache', cache, '--cache-size', '1G']);
    onTestFailed(() => console.error(mounted.log()));
    const writer = await stuckWriter(cache, 'cache');
    const there = join(mounted.dir, path.slice(path.lastIndexOf('/') + 1));
    expect(await run('diff', ['-r', tree, there], { timeout: SOON_MS })).toMatchObject({ status: 0 });
    const { status, took } = await mounted.stop();
    expect([status, took < SOON_MS]).toEqual([0, true]);
    await writer.release();
    await daemon.stop();
  });

  test('a daemon answers reads and its health, and takes uploads when the writer goes on', async () => {
    const { dir, store, path, tree } = await imported();
    const daemon = await startDaemon(store);
    const writer = await stuckWriter(dir);
    expect(await soon(['cat', '--store', daemon.url, `${path}/b`])).toMatchObject({ status: 0, stdout: 'b' });
    expect(await soon(['ls', '--store', daemon.url])).toMatchObject({ status: 0 });
    const client = await openAt(daemon.url);
    const contents = randomBytes(200_000, 'new');
    const put = client.blobs.put(contents).then(async (put) => {
      await client.blobs.flush();
      return put;
    });
    await delay(2000);
    expect(await soon(['realise', '--store', daemon.url, path, tempDir()])).toMatchObject({ status: 0 });
    await writer.release();
    expect((await readBlob(client, (await put).digest))?.equals(contents)).toBe(true);
    await client.close();
    expect(await daemon.stop()).toBe(0);
    expect(await tvixStore(['import', '--store', store, tree])).toMatchObject({ status: 0 });
  });

  test.each([
    ['a daemon', startDaemon],
    ['a binary cache', startNarBridge],
  ])('%s that has begun to note a use can be stopped', async (_, startServer) => {
    const { dir, store, path } = await imported();
    const server = await startServer(store);
    const writer = await stuckWriter(dir);
    if (server.url.includes('grpc') && startServer === startDaemon) {
      expect(await soon(['cat', '--store', server.url, `${path}/b`])).toMatchObject({ status: 0 });
    } else {
      const hash = path.slice('/nix/store/'.length, '/nix/store/'.length + 32);
      const response = await fetch(`http://127.0.0.1:${server.port}/${hash}.narinfo`);
      expect(await response.text()).toContain(`StorePath: ${path}`);
    }
    const begun = performance.now();
    expect(await server.stop()).toBe(0);
    expect(performance.now() - begun).toBeLessThan(SOON_MS);
    await writer.release();
  });

  test('one that writes says for whom it waits, and goes on when it may', async () => {
    const { dir, store, tree } = await imported();
    const writer = await stuckWriter(dir);
    const more = join(tempDir(), 'more');
    writeTree(more, directory({ c: file('c') }));
    const waiting: Started = await start(
      process.execPath,
      [CLI, 'import', '--store', store, more],
      'waiting for another writer',
    );
    const ended = new Promise((resolve) => waiting.once('exit', resolve));
    expect(waiting.log()).toMatch(new RegExp(`process ${writer.pid} \\(.*stopped.*; started \\d{4}-`));
    expect(readFileSync(`/proc/${waiting.pid}/cmdline`, 'utf8')).toContain('import');
    await writer.release();
    expect(await ended, waiting.log()).toBe(0);
    expect(await tvixStore(['import', '--store', store, tree])).toMatchObject({ status: 0 });
  });

  test('one that is to end does', async () => {
    const { dir, store } = await imported();
    const writer = await stuckWriter(dir);
    const more = join(tempDir(), 'more');
    writeTree(more, file('c'));
    const waiting = await start(
      process.execPath,
      [CLI, 'import', '--store', store, more],
      'waiting for another writer',
    );
    const ended = new Promise((resolve) => waiting.once('exit', (_, signal) => resolve(signal)));
    waiting.kill('SIGTERM');
    expect(await Promise.race([ended, delay(SOON_MS, 'late')])).not.toBe('late');
    await writer.release();
  });
});
