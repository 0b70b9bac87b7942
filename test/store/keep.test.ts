import { expect, test } from 'vitest';
import { rowEpoch } from '../../src/castore/local/rows.ts';
import type { Table } from '../../src/castore/local/table.ts';
import { keepTree } from '../../src/store/keeping/keep-tree.ts';
import { importNar } from '../../src/store/nar/import.ts';
import { narOf } from '../helpers/nar.ts';
import { randomBytes } from '../helpers/random.ts';
import { localStore, memoryStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, symlink } from '../helpers/trees.ts';

const NAR = narOf(
  directory({
    sub: directory({ small: file('small'), large: file(randomBytes(2 << 20, 'large')) }),
    link: symlink('sub'),
  }),
);

test("a tree that is kept is out of a collector's reach, all of it", async () => {
  const dir = tempDir();
  const first = localStore(dir);
  const { node } = await importNar(first, [NAR] as never, 'kept');
  // As a collector does when it begins.
  const epoch = first.local.env.epoch() + 1;
  await first.local.env.table('meta').put(Buffer.from('epoch'), Buffer.from(String(epoch)));
  await first.close();

  const store = localStore(dir);
  const { directories, manifests, chunks } = store.local.env;
  const epochs = () =>
    [directories, manifests, chunks].flatMap((table: Table) =>
      [...table.rows()].map(({ value }) => rowEpoch(value)),
    );
  expect(epochs().every((of) => of < epoch)).toBe(true);
  expect(await keepTree(store, node)).toBe(true);
  expect(epochs().every((of) => of === epoch)).toBe(true);
  await store.close();
});

test.each(['directories', 'manifests', 'chunks'] as const)(
  'a tree is not kept when one of its %s is gone',
  async (kind) => {
    const dir = tempDir();
    const store = localStore(dir);
    const { node } = await importNar(store, [NAR] as never, 'kept');
    const table = store.local.env[kind];
    for (const { key } of [...table.rows()]) {
      const row = table.get(key)!;
      await table.remove(key);
      // As another process finds it: this one may remember for a second that it was there.
      const other = localStore(dir);
      expect(await keepTree(other, node)).toBe(false);
      await other.close();
      await table.put(key, row);
    }
    expect(await keepTree(store, node)).toBe(true);
    await store.close();
  },
);

test('what is in another kind of store is looked for', async () => {
  const store = memoryStore();
  for (const nar of [NAR, narOf(file('plain')), narOf(symlink('x'))]) {
    const { node } = await importNar(store, [nar] as never, 'kept');
    expect(await keepTree(store, node)).toBe(true);
    expect(await keepTree(memoryStore(), node)).toBe(node.kind === 'symlink');
  }
});
