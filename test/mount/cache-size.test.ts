import { readFileSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CacheServer, testPath } from '../helpers/binary-cache.ts';
import { tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

test('a mount with --cache-size shows all of a store that is larger than that', async () => {
  const dir = tempDir();
  await mkdir(join(dir, 'trees'));
  const tree = join(dir, 'trees', 'tree');
  const names = Array.from({ length: 60 }, (_, i) => `f${i}`);
  writeTree(
    tree,
    directory(Object.fromEntries(names.map((name) => [name, file(randomBytes(500_000, name))]))),
  );
  const store = `local://${join(dir, 'store')}`;
  const [path] = (await tvixStore(['import', '--store', store, tree])).stdout.trim().split('\n');
  const daemon = await startDaemon(store);
  const cache = join(dir, 'cache');
  const args = ['--store', daemon.url, '--cache', cache, '--cache-size', '4M', '--log-level', 'debug'];
  // The second one has what the kernel no longer has fetched again.
  for (let round = 0; round < 2; round++) {
    const mounted = await mount(args);
    for (const name of names) {
      const read = readFileSync(join(mounted.dir, path!.slice('/nix/store/'.length), name));
      expect([name, read.equals(randomBytes(500_000, name))]).toEqual([name, true]);
    }
    const { log, status } = await mounted.stop();
    expect([status, log]).toEqual([0, expect.stringContaining('debug: evicted')]);
  }
  await daemon.stop();
  const at = ['--store', `local://${cache}`];
  const foreseen = JSON.parse(
    (await tvixStore(['gc', '--max-size', '1M', '--dry-run', '--json', ...at])).stdout,
  );
  const shrunk = JSON.parse((await tvixStore(['gc', '--max-size', '1M', '--json', ...at])).stdout);
  expect(shrunk.size).toBeLessThanOrEqual(1 << 20);
  // The limit, and what may come before anybody looks again: up to 8 MiB that are read ahead.
  expect(shrunk.size + shrunk.freed).toBeLessThan(14 << 20);
  // What was said before, but for what a row takes in the database.
  expect(Math.abs(foreseen.freed - shrunk.freed)).toBeLessThan(shrunk.freed * 0.1);
  const compacted = JSON.parse((await tvixStore(['compact', '--json', ...at])).stdout);
  expect(compacted.after).toBeLessThanOrEqual(compacted.before);
  expect((await tvixStore(['fsck', ...at])).status).toBe(0);
  expect((await tvixStore(['gc', ...at])).stderr).toContain('--max-size');
});

test('a mount of a daemon over a binary cache shows also what that has evicted', async () => {
  const path = testPath('path', {
    tree: directory({ first: file('first'), second: file(randomBytes(800_000, 'second')) }),
  });
  const upstream = await CacheServer.start([path]);
  const cache = join(tempDir(), 'cache');
  const daemon = await startDaemon(upstream.address, '127.0.0.1:0', ['--cache', cache]);
  const mounted = await mount(['--store', daemon.url, '--cache', join(tempDir(), 'cache')]);
  const at = (name: string) =>
    join(mounted.dir, path.info.storePath.absolute().slice('/nix/store/'.length), name);
  expect(await readFile(at('first'), 'utf8')).toBe('first');
  await tvixStore(['gc', '--max-size', '0B', '--store', `local://${cache}`]);
  expect((await readFile(at('second'))).equals(randomBytes(800_000, 'second'))).toBe(true);
  await mounted.stop();
  await daemon.stop();
});

test('gc --max-size --dry-run names the store paths that would lose something, and takes nothing', async () => {
  const dir = tempDir();
  const store = `local://${join(dir, 'store')}`;
  const paths: string[] = [];
  for (const name of ['one', 'two']) {
    writeTree(join(dir, name), directory({ f: file(randomBytes(900_000, name)) }));
    paths.push((await tvixStore(['import', '--store', store, join(dir, name)])).stdout.trim());
  }
  const daemon = await startDaemon(store);
  const cache = join(dir, 'cache');
  const mounted = await mount(['--store', daemon.url, '--cache', cache]);
  for (const path of paths)
    expect(readFileSync(join(mounted.dir, path.slice('/nix/store/'.length), 'f')).length).toBe(900_000);
  await mounted.stop();
  await daemon.stop();
  const at = ['--store', `local://${cache}`];
  const before = JSON.parse((await tvixStore(['stats', '--json', ...at])).stdout);
  const { stdout } = await tvixStore(['gc', '--max-size', '100K', '--dry-run', '--json', ...at]);
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(
    lines
      .slice(0, -1)
      .map(({ path }) => path)
      .sort(),
  ).toEqual(paths.toSorted());
  expect(lines.at(-1).freed).toBeGreaterThan(1_700_000);
  expect(JSON.parse((await tvixStore(['stats', '--json', ...at])).stdout)).toEqual(before);
});
