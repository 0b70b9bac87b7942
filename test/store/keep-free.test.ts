import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { run, tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { freeOf, smallDisk } from '../helpers/small-disk.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

const MIB = 1 << 20;
const small = () => smallDisk(48);

/** A tree of 60 MiB, in files of 3. */
function largeTree(): string {
  const tree = join(tempDir(), 'tree');
  const files = Array.from({ length: 20 }, (_, i) => [`f${i}`, file(randomBytes(3 * MIB, i))] as const);
  writeTree(tree, directory(Object.fromEntries(files)));
  return tree;
}

describe.skipIf(!small())('what is to be left free on a disk', () => {
  test('is left by an import and by a daemon, which refuse what would take it', async () => {
    const disk = small()!;
    const store = `local://${disk}/store`;
    const little = join(tempDir(), 'small');
    writeTree(little, file('small'));
    const tree = largeTree();
    const flags = ['--store', store, '--keep-free', '20M'];
    expect(await tvixStore(['import', ...flags, little])).toMatchObject({ status: 0 });
    const refused = await tvixStore(['import', ...flags, tree]);
    expect([refused.status, refused.stdout]).toEqual([1, '']);
    expect(refused.stderr).toMatch(
      /^error: no space for the store in .*: 20\.0 MiB are to be left free on its disk/,
    );
    expect(freeOf(disk)).toBeGreaterThan(19 * MIB);
    const daemon = await startDaemon(store, '127.0.0.1:0', ['--keep-free', '20M']);
    const far = await tvixStore(['import', '--store', daemon.url, tree]);
    expect([far.status, far.stderr]).toEqual([1, expect.stringContaining('to be left free')]);
    expect(freeOf(disk)).toBeGreaterThan(18 * MIB);
    expect(await daemon.stop()).toBe(0);
    expect((await tvixStore(['ls', '--store', store])).stdout.trim().split('\n')).toHaveLength(1);
    expect(await tvixStore(['gc', '--store', store, '--older-than', '0'])).toMatchObject({ status: 0 });
  });

  test('is left by a mount, which serves all the same, and evicts', async () => {
    const disk = small()!;
    const tree = largeTree();
    const store = `local://${tempDir()}/store`;
    const { stdout } = await tvixStore(['import', '--store', store, tree]);
    const daemon = await startDaemon(store);
    const cache = join(disk, 'cache');
    mkdirSync(cache);
    const mounted = await mount(['--store', daemon.url, '--cache', cache, '--keep-free', '20M']);
    const there = join(mounted.dir, stdout.trim().slice('/nix/store/'.length));
    expect(await run('diff', ['-r', tree, there])).toMatchObject({ status: 0 });
    expect(freeOf(disk)).toBeGreaterThan(18 * MIB);
    expect((await mounted.stop()).status).toBe(0);
    const refused = await mount(['--store', store, '--keep-free', '1G']).catch((error) => String(error));
    expect(refused).toContain('--keep-free has no effect');
    await daemon.stop();
  });
});
