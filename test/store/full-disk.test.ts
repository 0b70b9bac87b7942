import { closeSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { LocalStore } from '../../src/castore/local/store.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import { randomBytes } from '../helpers/random.ts';
import { freeOf, smallDisk } from '../helpers/small-disk.ts';
import { tempDir } from '../helpers/temp.ts';
import type { Tree } from '../helpers/trees.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

const small = () => smallDisk(32);

/** Leaves not a byte free, but for what is deleted later. */
function fill(disk: string): string {
  const path = join(disk, 'filler');
  const fd = openSync(path, 'w');
  for (const size of [1 << 20, 4096, 1]) {
    try {
      for (;;) writeSync(fd, Buffer.alloc(size));
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC');
    }
  }
  closeSync(fd);
  expect(freeOf(disk)).toBe(0);
  return path;
}

const TREES: Record<string, Tree> = {
  kept: directory({ large: file(randomBytes(900_000, 'kept')), small: file('kept') }),
  large: directory({ large: file(randomBytes(4_000_000, 'large')) }),
  many: directory(
    Object.fromEntries(
      Array.from({ length: 1500 }, (_, i) => [`f${i}`, file(randomBytes(3000, `f${i}`))] as const),
    ),
  ),
};

async function filled(disk: string) {
  const store = `local://${disk}/store`;
  const trees = tempDir();
  const paths: Record<string, string> = {};
  for (const [name, tree] of Object.entries(TREES)) {
    writeTree(join(trees, name), tree);
    const { status, stdout, stderr } = await tvixStore(['import', '--store', store, join(trees, name)]);
    expect(status, stderr).toBe(0);
    paths[name] = stdout.trim();
  }
  expect(await tvixStore(['root', 'add', '--store', store, 'kept', paths.kept!])).toMatchObject({
    status: 0,
  });
  return { store, trees, paths, filler: fill(disk) };
}

describe.skipIf(!small())('on a disk without a byte free', () => {
  test('garbage is collected, and everything works again', async () => {
    const disk = small()!;
    const { store, trees, paths } = await filled(disk);
    const refused = await tvixStore(['import', '--store', store, '--name', 'other', '/etc/services']);
    expect(refused.status).toBe(refused.stderr === '' ? 0 : 1);
    const collected = await tvixStore(['gc', '--store', store, '--older-than', '0']);
    expect([collected.status, collected.stderr]).toEqual([0, '']);
    expect(collected.stdout).toContain('1 store paths are left');
    expect(freeOf(disk)).toBeGreaterThan(3_500_000);
    const target = tempDir();
    expect(await tvixStore(['realise', '--store', store, paths.kept!, target])).toMatchObject({ status: 0 });
    const name = paths.kept!.slice('/nix/store/'.length);
    expect(await run('diff', ['-r', join(trees, 'kept'), join(target, name)])).toMatchObject({ status: 0 });
    expect(await tvixStore(['fsck', '--store', store])).toMatchObject({ status: 0 });
    expect(await tvixStore(['import', '--store', store, join(trees, 'kept', 'large')])).toMatchObject({
      status: 0,
    });
  });

  test('what is damaged is repaired', async () => {
    const disk = small()!;
    const { store, paths } = await filled(disk);
    const chunks = join(disk, 'store/chunks');
    const [first] = readdirSync(chunks, { recursive: true, encoding: 'utf8' })
      .map((name) => join(chunks, name))
      .filter((path) => statSync(path).isFile());
    rmSync(first!);
    fill(disk);
    const repaired = await tvixStore(['fsck', '--repair', '--store', store]);
    expect([repaired.status, repaired.stderr]).toEqual([1, '']);
    expect(readdirSync(join(disk, 'store')).filter((name) => /new|old|damaged/.test(name))).toEqual([]);
    const left = (await tvixStore(['ls', '--store', store])).stdout.trim().split('\n');
    expect(left).toHaveLength(2);
    expect(
      Object.values(paths).filter((path) => left.includes(path.slice('/nix/store/'.length))),
    ).toHaveLength(2);
    expect(await tvixStore(['gc', '--store', store, '--older-than', '0'])).toMatchObject({
      status: 0,
      stderr: '',
    });
  });

  test('a database that has to be rebuilt is left as it is until there is room, and it is said for how much', async () => {
    const disk = small()!;
    const { store, filler } = await filled(disk);
    const local = LocalStore.open(join(disk, 'store'), 'store');
    rmSync(filler);
    local.env.transaction(() => local.env.table('meta').putSync(Buffer.from('epoch'), Buffer.from('x')));
    await local.close();
    fill(disk);
    const before = readdirSync(join(disk, 'store')).sort();
    const refused = await tvixStore(['fsck', '--repair', '--store', store]);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(
      /^error: the database in .* has to be rebuilt .* MiB; .* are free on that disk\n$/,
    );
    expect(readdirSync(join(disk, 'store')).sort()).toEqual(before);
    rmSync(filler);
    expect((await tvixStore(['fsck', '--repair', '--store', store])).stderr).toBe('');
    expect(await tvixStore(['fsck', '--store', store])).toMatchObject({ status: 0 });
  });
});
