import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { parseChunkRow } from '../../src/castore/local/rows.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

const FILES = 12;

async function served() {
  const store = `local://${tempDir()}/store`;
  const tree = join(tempDir(), 'tree');
  const files = Array.from({ length: FILES }, (_, i) => [`f${i}`, file(randomBytes(300_000, i))] as const);
  writeTree(tree, directory(Object.fromEntries(files)));
  const { stdout } = await tvixStore(['import', '--store', store, tree]);
  const name = stdout.trim().slice('/nix/store/'.length);
  const daemon = await startDaemon(store);
  return { tree, name, daemon };
}

/** Chunk files in a cache, and those of them that no row names. */
async function filesOf(cache: string): Promise<{ all: number; unnamed: string[] }> {
  const chunks = join(cache, 'chunks');
  const files = readdirSync(chunks, { recursive: true, encoding: 'utf8' }).filter((name) =>
    statSync(join(chunks, name)).isFile(),
  );
  const local = LocalStore.openToRead(cache);
  const named = new Set<string>();
  for (const { key, value } of local.env.chunks.rows()) {
    const row = parseChunkRow(value, key);
    if (row.kind === 'file') named.add(`${key.toString('hex')}.${row.suffix}`);
  }
  await local.close();
  return {
    all: files.length,
    unnamed: files.filter((path) => !named.has(path.slice(path.lastIndexOf('/') + 1))),
  };
}

test('two mounts that fill a cache with the same chunks leave one file for each', async () => {
  const { tree, name, daemon } = await served();
  const cache = tempDir();
  const mounts = await Promise.all([1, 2, 3].map(() => mount(['--store', daemon.url, '--cache', cache])));
  const diffs = mounts.map(({ dir }) => run('diff', ['-r', tree, join(dir, name)]));
  for (const diff of await Promise.all(diffs)) expect(diff).toMatchObject({ status: 0 });
  for (const one of mounts) expect((await one.stop()).status).toBe(0);
  const { all, unnamed } = await filesOf(cache);
  expect(all).toBeGreaterThanOrEqual(FILES);
  expect(unnamed).toEqual([]);
  // Whichever stayed is whole.
  await daemon.stop();
  const offline = await mount(['--offline', '--store', daemon.url, '--cache', cache]);
  expect(await run('diff', ['-r', tree, join(offline.dir, name)])).toMatchObject({ status: 0 });
  expect((await offline.stop()).status).toBe(0);
});

test.each([[[]], [['--cache-size', '1G']]])(
  'what a killed mount has left goes when the next one begins, with %j',
  async (flags) => {
    const { tree, name, daemon } = await served();
    const cache = tempDir();
    const args = ['--store', daemon.url, '--cache', cache, ...flags];
    const killed = await mount(args);
    // In the middle of filling.
    void run(
      'cat',
      Array.from({ length: FILES }, (_, i) => join(killed.dir, name, `f${i}`)),
      { timeout: 20_000 },
    );
    await vi.waitFor(() => expect(readdirSync(join(cache, 'chunks')).length).toBeGreaterThan(0), 20_000);
    await killed.stop('SIGKILL');
    await run('umount', ['-l', killed.dir]);
    const next = await mount(args);
    await vi.waitFor(async () => expect((await filesOf(cache)).unnamed).toEqual([]), {
      timeout: 20_000,
      interval: 500,
    });
    expect(await run('diff', ['-r', tree, join(next.dir, name)])).toMatchObject({ status: 0 });
    expect((await next.stop()).status).toBe(0);
    await daemon.stop();
  },
);

test('a cache that is deleted is no longer filled, keeps nobody from reading, and begins anew with the next mount', async () => {
  const { tree, name, daemon } = await served();
  const cache = join(tempDir(), 'cache');
  const args = ['--store', daemon.url, '--cache', cache];
  const first = await mount(args);
  expect((await run('cat', [join(first.dir, name, 'f0')])).status).toBe(0);
  rmSync(cache, { recursive: true });
  expect(await run('diff', ['-r', tree, join(first.dir, name)])).toMatchObject({ status: 0, stderr: '' });
  expect(existsSync(cache)).toBe(false);
  const second = await mount(args);
  expect(await run('diff', ['-r', tree, join(second.dir, name)])).toMatchObject({ status: 0, stderr: '' });
  for (const one of [first, second]) expect((await one.stop()).status).toBe(0);
  expect(first.log()).toContain(`${cache} has been deleted`);
  expect((await filesOf(cache)).unnamed).toEqual([]);
  await daemon.stop();
});
