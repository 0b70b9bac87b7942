import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { databasePath } from '../../src/castore/local/database.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import { CLI, run, tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { localStore } from '../helpers/services.ts';
import { putStorePath, storePathOf } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree, symlink, writeTree } from '../helpers/trees.ts';

const MIB = 1 << 20;
/** Bytes of a chunk at the least, but of the last one of a file. */
const LEAST_CHUNK = 128 << 10;
/** What a connection and its questions cost, in bytes. */
const TALK = 64 << 10;
const NOWHERE = 'grpc+http://127.0.0.1:1';
const dir = tempDir();
const store = `local://${dir}/store`;
const full = (name: string) => storePathOf(name).absolute();
const trees = {
  lib: directory({ generated: generateTree(200, 3), large: file(randomBytes(3 * MIB, 'large')) }),
  app: directory({ bin: directory({ run: file('#!/bin/sh\n', true) }), lib: symlink(full('lib')) }),
  other: file(randomBytes(700_000, 'other')),
  long: directory({ long: file(randomBytes(12 * MIB, 'long')) }),
};
/** Bytes of `large`. */
const LARGE = 3 * MIB;

beforeAll(async () => {
  const into = localStore(join(dir, 'store'));
  mkdirSync(join(dir, 'trees'));
  for (const [name, tree] of Object.entries(trees)) {
    writeTree(join(dir, 'trees', name), tree);
    const references = name === 'app' ? [storePathOf('lib')] : [];
    await putStorePath(into, name, tree, { references });
  }
  await into.close();
});

const newCache = () => join(tempDir(), 'cache');
const warm = (far: string, cache: string, ...args: string[]) =>
  tvixStore(['warm', '--store', far, '--cache', cache, ...args]);
const fetchedBy = ({ stdout }: { stdout: string }): number => JSON.parse(stdout).fetchedBytes;

/** Chunks that a cache has kept so far. */
function chunksIn(cache: string): number {
  if (!existsSync(databasePath(cache))) return 0;
  const local = LocalStore.openToRead(cache);
  const { count } = local.env.chunks;
  void local.close();
  return count;
}

/** That a tree below a mount is the original one, byte by byte. */
async function same(mounted: { dir: string }, name: string): Promise<void> {
  const [original, shown] = [join(dir, 'trees', name), join(mounted.dir, String(storePathOf(name)))];
  const { status, stdout, stderr } = await run('diff', ['-r', '--no-dereference', original, shown]);
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' });
}

/** That a mount of a cache, of which the far store is gone, shows all of these. */
async function servedAlone(cache: string, ...names: string[]): Promise<void> {
  const mounted = await mount(['--store', NOWHERE, '--cache', cache]);
  for (const name of names) await same(mounted, name);
  await mounted.stop();
}

describe('warm', () => {
  test('fetches everything in store paths and what they refer to, and then a mount needs nobody', async () => {
    const daemon = await startDaemon(store);
    const cache = newCache();
    const warmed = await warm(daemon.url, cache, '--closure', full('app'), storePathOf('other').hashText);
    expect(warmed).toMatchObject({ status: 0 });
    expect(warmed.stdout.trim().split('\n').sort()).toEqual([full('app'), full('lib'), full('other')].sort());
    await daemon.stop();
    await servedAlone(cache, 'app', 'lib', 'other');
  });

  test('fills the cache of a mount that is running', async () => {
    const daemon = await startDaemon(store);
    const cache = newCache();
    const mounted = await mount(['--store', daemon.url, '--cache', cache]);
    const shown = join(mounted.dir, String(storePathOf('lib')));
    const reading = readFile(join(shown, 'large'));
    expect(await warm(daemon.url, cache, full('lib'), full('app'))).toMatchObject({ status: 0 });
    await reading;
    await daemon.stop();
    await same(mounted, 'lib');
    await same(mounted, 'app');
    await mounted.stop();
  });

  test('does not fetch again what the cache has, whoever has brought it', async () => {
    const daemon = await startDaemon(store);
    const proxy = await TcpProxy.start(daemon.port);
    const all = fetchedBy(await warm(daemon.url, newCache(), '--json', full('lib')));
    expect(all).toBeGreaterThan(LARGE);
    const cache = newCache();
    const mounted = await mount(['--store', daemon.url, '--cache', cache]);
    await run('cat', [join(mounted.dir, String(storePathOf('lib')), 'large')]);
    await mounted.stop();
    const rest = await proxy.count(() => warm(proxy.url, cache, full('lib')));
    expect(rest.down).toBeLessThan(all - LARGE + TALK);
    const again = await proxy.count(() => warm(proxy.url, cache, '--json', full('lib')));
    expect(fetchedBy(again.result)).toBe(0);
    expect(again.down).toBeLessThan(TALK);
    await daemon.stop();
    await servedAlone(cache, 'lib');
  });

  test('goes on where an earlier run was killed', async () => {
    const daemon = await startDaemon(store);
    const proxy = await TcpProxy.start(daemon.port);
    const cache = newCache();
    proxy.rate = 2 * MIB;
    const first = spawn(process.execPath, [
      CLI,
      'warm',
      '--store',
      proxy.url,
      '--cache',
      cache,
      full('long'),
    ]);
    const ended = once(first, 'exit');
    try {
      await expect.poll(() => chunksIn(cache), { timeout: 60_000, interval: 50 }).toBeGreaterThan(8);
    } finally {
      first.kill('SIGKILL');
    }
    await ended;
    const kept = chunksIn(cache) * LEAST_CHUNK;
    // Another proxy: what was on its way to the first one still goes through that.
    const fresh = await TcpProxy.start(daemon.port);
    const rest = await warm(fresh.url, cache, '--json', full('long'));
    expect(rest).toMatchObject({ status: 0 });
    expect(fetchedBy(rest)).toBeLessThanOrEqual(12 * MIB - kept / 2);
    // A call that a busy machine answers late is made twice.
    expect(fresh.down).toBeLessThan(12 * MIB + TALK - kept / 2);
    await daemon.stop();
    await servedAlone(cache, 'long');
  });

  test('names what cannot be had, fetches the rest, and fails', async () => {
    const daemon = await startDaemon(store);
    const missing = full('missing');
    const { status, stdout, stderr } = await warm(daemon.url, newCache(), missing, full('lib'));
    expect([status, stdout]).toEqual([1, `${full('lib')}\n`]);
    expect(stderr).toContain(`path=${missing}`);
    const told = JSON.parse((await warm(daemon.url, newCache(), '--json', missing, full('lib'))).stdout);
    expect(told).toMatchObject({ paths: [{ path: full('lib') }], failed: [{ path: missing }] });
    await daemon.stop();
  });

  test('names a path of which the far store lacks a part', async () => {
    const broken = localStore(join(dir, 'broken'));
    const { node } = await putStorePath(broken, 'lib', trees.lib);
    await putStorePath(broken, 'whole', file('whole'));
    if (node.kind !== 'directory') throw new Error('a directory');
    broken.local.env.transaction(() => broken.local.env.directories.removeSync(node.digest.bytes));
    await broken.close();
    const daemon = await startDaemon(`local://${dir}/broken`);
    const { status, stdout, stderr } = await warm(daemon.url, newCache(), full('lib'), full('whole'));
    expect([status, stdout]).toEqual([1, `${full('whole')}\n`]);
    expect(stderr).toContain(`path=${full('lib')}`);
    await daemon.stop();
  });

  test('keeps to --rate', async () => {
    const daemon = await startDaemon(store);
    const begun = performance.now();
    const { stdout } = await warm(daemon.url, newCache(), '--rate', '2M', '--json', full('lib'));
    // However slow the machine is, it takes no less; the last part, which may be a whole chunk, need not be waited for.
    expect(performance.now() - begun).toBeGreaterThan(((fetchedBy({ stdout }) - MIB) / (2 * MIB)) * 1000);
    await daemon.stop();
  });

  test.each([
    ['objectstore+file', ''],
    ['nix+file', '?trusted=true'],
  ])('takes from %s', async (scheme, parameters) => {
    const to = `${scheme}://${dir}/${scheme}`;
    const far = to + parameters;
    const copy = ['copy', '--from', store, '--to', to, full('app')];
    expect(await tvixStore(copy)).toMatchObject({ status: 0 });
    const cache = newCache();
    expect(await warm(far, cache, '--closure', full('app'))).toMatchObject({ status: 0 });
    await servedAlone(cache, 'app', 'lib');
  });

  test('refuses what is on this machine, and a directory that is no cache', async () => {
    const local = await tvixStore(['warm', '--store', store, full('lib')]);
    expect([local.status, local.stderr]).toEqual([2, expect.stringContaining('on this machine')]);
    const daemon = await startDaemon(store);
    const other = await warm(daemon.url, join(dir, 'store'), full('lib'));
    expect([other.status, other.stderr]).toEqual([2, expect.stringContaining('not a cache')]);
    await daemon.stop();
  });
});
