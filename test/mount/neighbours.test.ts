import { join } from 'node:path';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { run } from '../helpers/cli.ts';
import { GatedMount } from '../helpers/gated-mount.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

const PATIENT = { timeout: 20_000, interval: 20 };
const COUNT = 40;
const NAMES = Array.from({ length: COUNT }, (_, i) => `file-${String(i).padStart(2, '0')}`);
const tree = join(tempDir(), 'tree');
let mount: GatedMount;

beforeAll(() => {
  writeTree(tree, directory(Object.fromEntries(NAMES.map((name) => [name, file(`contents of ${name}`)]))));
});
afterEach(() => mount.stop());

async function readAll(...indexes: number[]): Promise<string> {
  const { stdout, stderr } = await run(
    'cat',
    indexes.map((i) => join(mount.roots[0]!, NAMES[i]!)),
  );
  return stdout + stderr;
}

async function filesAsked(): Promise<number> {
  const { asked } = await mount.counts();
  return Object.keys(asked).filter((key) => key.startsWith('blobs read')).length;
}

test('small files that are read one behind the other bring those that follow', async () => {
  mount = await GatedMount.start({ trees: [tree] });
  await readAll(0, 1);
  await expect.poll(filesAsked, PATIENT).toBe(10);
  await mount.gate('blobs', 'failing');
  expect(await readAll(2, 3, 8, 9)).toBe([2, 3, 8, 9].map((i) => `contents of ${NAMES[i]}`).join(''));
  expect(await readAll(20)).toContain('Input/output error');
});

test('a whole directory that is read in order is asked for once, file by file', async () => {
  mount = await GatedMount.start({ trees: [tree] });
  const order = NAMES.map((_, i) => i);
  expect(await readAll(...order)).toBe(NAMES.map((name) => `contents of ${name}`).join(''));
  const { asked } = await mount.counts();
  expect(Object.values(asked).filter((count) => count > 1)).toEqual([]);
  expect(await filesAsked()).toBe(COUNT);
});

test('files that are read in no order bring nobody', async () => {
  mount = await GatedMount.start({ trees: [tree] });
  await readAll(30, 3, 17, 1, 25);
  expect(await filesAsked()).toBe(5);
});
