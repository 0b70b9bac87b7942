import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run, tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree, writeTree } from '../helpers/trees.ts';

const LARGE = 4_000_000;

test('a mount reads what a cache of a neighbour has from there, and the rest from the store', async () => {
  const dir = tempDir();
  const tree = join(dir, 'tree');
  writeTree(tree, directory({ large: file(randomBytes(LARGE, 'neighbour')), rest: generateTree(60, 8) }));
  const imported = await tvixStore(['import', '--store', `local://${dir}/store`, tree]);
  const name = imported.stdout.trim().slice('/nix/store/'.length);
  const daemon = await startDaemon(`local://${dir}/store`);
  const [store, cache] = [await TcpProxy.start(daemon.port), join(dir, 'cache')];

  // The neighbour has read one file, and its mount runs on.
  const first = await mount(['--store', store.url, '--cache', cache]);
  expect((await run('sha256sum', [join(first.dir, name, 'large')])).status).toBe(0);
  const neighbour = await startDaemon(`local://${cache}`, '127.0.0.1:0', ['--read-only']);
  const mirror = await TcpProxy.start(neighbour.port);

  const { down } = store;
  const second = await mount([
    ...['--store', store.url, '--cache', join(dir, 'another')],
    ...['--mirror', mirror.url, '--mirror', 'grpc+http://127.0.0.1:1'],
  ]);
  const diff = await run('diff', ['-r', '--no-dereference', tree, join(second.dir, name)]);
  expect([diff.status, `${diff.stdout}${diff.stderr}`]).toEqual([0, '']);
  expect(mirror.down).toBeGreaterThan(LARGE * 0.75);
  expect(store.down - down).toBeLessThan(LARGE);
  expect((await second.stop()).status).toBe(0);
  expect((await first.stop()).status).toBe(0);
});

test('a mount without its store reads on from a mirror', async () => {
  const dir = tempDir();
  const tree = join(dir, 'tree');
  writeTree(
    tree,
    directory({ one: file('one'), two: file('two'), large: file(randomBytes(LARGE, 'mirror')) }),
  );
  const imported = await tvixStore(['import', '--store', `local://${dir}/store`, tree]);
  const name = imported.stdout.trim().slice('/nix/store/'.length);
  const daemon = await startDaemon(`local://${dir}/store`);
  const web = await startDaemon(`local://${dir}/store`);
  const mounted = await mount([
    ...['--store', daemon.url, '--cache', join(dir, 'cache')],
    ...['--mirror', `objectstore+http://127.0.0.1:${web.port}`],
  ]);
  expect((await run('cat', [join(mounted.dir, name, 'one')])).stdout).toBe('one');
  await daemon.stop();
  expect((await run('cat', [join(mounted.dir, name, 'two')])).stdout).toBe('two');
  expect((await run('cmp', [join(tree, 'large'), join(mounted.dir, name, 'large')])).status).toBe(0);
  expect((await mounted.stop()).status).toBe(0);
});
