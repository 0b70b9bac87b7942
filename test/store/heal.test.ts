import { rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { LocalStore } from '../../src/castore/local/store.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import type { TestMount } from '../helpers/mount.ts';
import { DRIVERS, mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { chunkFiles, rot } from '../helpers/rot.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

const LARGE = randomBytes(900_000, 'large');
const SMALL = randomBytes(3000, 'small');

/** A tree, and a store that has it. */
async function imported(): Promise<{ tree: string; dir: string; store: string; path: string }> {
  const dir = join(tempDir(), 'store');
  const tree = join(tempDir(), 'tree');
  writeTree(tree, directory({ large: file(LARGE), small: file(SMALL), other: file('other') }));
  const store = `local://${dir}`;
  return { tree, dir, store, path: await importInto(store, tree) };
}

async function importInto(store: string, tree: string): Promise<string> {
  const { status, stdout, stderr } = await tvixStore(['import', '--store', store, tree]);
  expect(status, stderr).toBe(0);
  return stdout.trim();
}

const DAMAGES: Record<string, (dir: string) => void> = {
  'chunk files that are gone': (dir) => {
    for (const path of chunkFiles(dir)) rmSync(path);
  },
  'a chunk file that was cut': (dir) => truncateSync(chunkFiles(dir)[0]!, 100),
  'an empty chunk file': (dir) => truncateSync(chunkFiles(dir)[0]!, 0),
  'a chunk file that has grown': (dir) => truncateSync(chunkFiles(dir)[0]!, 10 << 20),
};

async function isWhole({ store, path, tree }: { store: string; path: string; tree: string }): Promise<void> {
  const target = tempDir();
  const realised = await tvixStore(['realise', '--store', store, path, target]);
  expect(realised.status, realised.stderr).toBe(0);
  const name = path.slice(path.lastIndexOf('/') + 1);
  expect(await run('diff', ['-r', tree, join(target, name)])).toMatchObject({ status: 0 });
  expect(await tvixStore(['fsck', '--store', store])).toMatchObject({ status: 0 });
}

describe.each(Object.keys(DAMAGES))('%s', (kind) => {
  test('are written anew by another import', async () => {
    const made = await imported();
    DAMAGES[kind]!(made.dir);
    expect((await tvixStore(['fsck', '--store', made.store])).status).toBe(1);
    expect(await importInto(made.store, made.tree)).toBe(made.path);
    await isWhole(made);
  });

  test('are written anew by another copy', async () => {
    const made = await imported();
    const copy = { ...made, dir: join(tempDir(), 'copy'), store: '' };
    copy.store = `local://${copy.dir}`;
    const args = ['copy', '--from', made.store, '--to', copy.store, made.path];
    expect(await tvixStore(args)).toMatchObject({ status: 0 });
    DAMAGES[kind]!(copy.dir);
    expect(await tvixStore(args)).toMatchObject({ status: 0 });
    await isWhole(copy);
  });

  test('are written anew by an import through a daemon', async () => {
    const made = await imported();
    const daemon = await startDaemon(made.store);
    DAMAGES[kind]!(made.dir);
    const other = join(tempDir(), 'other');
    writeTree(other, directory({ large: file(LARGE), more: file('more') }));
    const path = await importInto(daemon.url, other);
    expect(await daemon.stop()).toBe(0);
    await isWhole({ store: made.store, path, tree: other });
  });
});

test('small chunks, chunk lists and directories that are damaged are written anew by another import', async () => {
  const made = await imported();
  const local = LocalStore.open(made.dir, 'store');
  const { chunks, manifests, directories } = local.env;
  for (const table of [chunks, manifests, directories]) {
    for (const { key, value } of [...table.rows()]) {
      value[value.length - 1]! ^= 4;
      await table.put(key, value);
    }
  }
  await local.close();
  await importInto(made.store, made.tree);
  await isWhole(made);
});

async function reads(mounted: TestMount, path: string, name: string, tree: string): Promise<boolean> {
  const read = join(mounted.dir, path.slice(path.lastIndexOf('/') + 1), name);
  const { status, stderr } = await run('cmp', [read, join(tree, name)]);
  if (status !== 0) expect(stderr).toContain('Input/output error');
  return status === 0;
}

describe.each(DRIVERS)('a mount by %s', (driver) => {
  test('serves no byte of a rotten chunk, names the store path, and serves it when it is whole again', async () => {
    const made = await imported();
    const { tree, dir, store, path } = made;
    for (const chunk of chunkFiles(dir)) rot(chunk);
    const mounted = await mount(['--driver', driver, '--store', store]);
    expect(await reads(mounted, path, 'large', tree)).toBe(false);
    expect(await reads(mounted, path, 'small', tree)).toBe(true);
    expect(await reads(mounted, path, 'other', tree)).toBe(true);
    expect(mounted.log()).toMatch(/chunk \S+ of blob \S+ is damaged .*; it belongs to /);
    expect(mounted.log()).toContain(path);
    expect((await tvixStore(['fsck', '--store', store])).status).toBe(1);
    // What the mount has found out is known to whoever writes.
    await importInto(store, tree);
    expect(await reads(mounted, path, 'large', tree)).toBe(true);
    expect((await mounted.stop()).status).toBe(0);
    await isWhole(made);
  });

  test('of a cache gets a rotten chunk from the far store again', async () => {
    const { tree, store, path } = await imported();
    const daemon = await startDaemon(store);
    const cache = tempDir();
    const args = ['--driver', driver, '--store', daemon.url, '--cache', cache];
    const first = await mount(args);
    expect(await reads(first, path, 'large', tree)).toBe(true);
    expect((await first.stop()).status).toBe(0);
    for (const chunk of chunkFiles(cache)) rot(chunk);
    const second = await mount(args);
    expect(await reads(second, path, 'large', tree)).toBe(true);
    expect((await second.stop()).status).toBe(0);
    // They are whole by now: nobody is asked any more.
    await daemon.stop();
    const third = await mount(['--offline', ...args]);
    expect(await reads(third, path, 'large', tree)).toBe(true);
    expect((await third.stop()).status).toBe(0);
  });
});

test('a daemon gives no byte of a rotten chunk, and takes it anew', async () => {
  const made = await imported();
  const daemon = await startDaemon(made.store);
  rot(chunkFiles(made.dir)[0]!);
  const { status, stderr } = await tvixStore(['cat', '--store', daemon.url, `${made.path}/large`]);
  expect(status).toBe(1);
  expect(stderr).toContain('damaged');
  await expect
    .poll(() => daemon.log(), { timeout: 10_000 })
    .toMatch(new RegExp(`a chunk is damaged.* paths=${made.path}`));
  const other = join(tempDir(), 'other');
  writeTree(other, directory({ large: file(LARGE) }));
  await importInto(daemon.url, other);
  expect(await daemon.stop()).toBe(0);
  await isWhole(made);
});
