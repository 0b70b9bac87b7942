import { basename, join } from 'node:path';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { run, tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { GatedMount } from '../helpers/gated-mount.ts';
import { mount as mountStore } from '../helpers/mount.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

const PATIENT = { timeout: 20_000, interval: 20 };
const COUNT = 40;
const NAMES = Array.from({ length: COUNT }, (_, i) => `file-${String(i).padStart(2, '0')}`);
const tree = join(tempDir(), 'tree');
let mount: GatedMount;

async function mountTree(path: string): Promise<void> {
  mount = await GatedMount.start({ trees: [path] });
  onTestFinished(async () => void (await mount.stop()));
}

beforeAll(() => {
  writeTree(tree, directory(Object.fromEntries(NAMES.map((name) => [name, file(`contents of ${name}`)]))));
});

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
  await mountTree(tree);
  await readAll(0, 1);
  await expect.poll(filesAsked, PATIENT).toBe(10);
  await mount.gate('blobs', 'failing');
  expect(await readAll(2, 3, 8, 9)).toBe([2, 3, 8, 9].map((i) => `contents of ${NAMES[i]}`).join(''));
  expect(await readAll(20)).toContain('Input/output error');
});

test('a whole directory that is read in order is asked for once, file by file', async () => {
  await mountTree(tree);
  const order = NAMES.map((_, i) => i);
  expect(await readAll(...order)).toBe(NAMES.map((name) => `contents of ${name}`).join(''));
  const { asked } = await mount.counts();
  expect(Object.values(asked).filter((count) => count > 1)).toEqual([]);
  expect(await filesAsked()).toBe(COUNT);
});

test('files that are read in no order bring nobody', async () => {
  await mountTree(tree);
  await readAll(30, 3, 17, 1, 25);
  expect(await filesAsked()).toBe(5);
});

test('larger ones come as a whole with those before them: no list of their chunks is asked for', async () => {
  const contents = NAMES.slice(0, 20).map((_, i) => randomBytes(150_000 + 20_000 * i, i));
  const path = join(tempDir(), 'larger');
  writeTree(path, directory(Object.fromEntries(contents.map((bytes, i) => [NAMES[i]!, file(bytes)]))));
  await mountTree(path);
  expect(await run('diff', ['-r', path, mount.roots[0]!])).toMatchObject({ status: 0, stdout: '' });
  const { asked } = await mount.counts();
  const lists = Object.keys(asked).filter((key) => key.startsWith('blobs chunks'));
  expect(lists.length).toBeLessThan(15);
});

/** Directories within directories, with so many files in each. */
function nested(depth: number, files: number, name = ''): ReturnType<typeof directory> {
  const own = Array.from({ length: files }, (_, i) => [`f${i}`, file(`file ${i} of ${name}`)] as const);
  const below = depth > 0 ? ['a', 'g', 'z'].map((d) => [d, nested(depth - 1, files, name + d)] as const) : [];
  return directory(Object.fromEntries([...own, ...below]));
}

test('who reads the files of a directory, and not those below it, gets only these', async () => {
  const path = join(tempDir(), 'nested');
  writeTree(path, nested(1, 20));
  await mountTree(path);
  const names = Array.from({ length: 20 }, (_, i) => join(mount.roots[0]!, `f${i}`)).sort();
  await run('cat', names);
  expect(await filesAsked()).toBe(20);
});

test('who reads all files of a directory before those below it gets these in order, too', async () => {
  const path = join(tempDir(), 'files-first');
  writeTree(path, nested(1, 20));
  await mountTree(path);
  const names = Array.from({ length: 20 }, (_, i) => `f${i}`).sort();
  await run(
    'cat',
    names.map((name) => join(mount.roots[0]!, name)),
  );
  const before = await filesAsked();
  await run(
    'cat',
    names.slice(0, 2).map((name) => join(mount.roots[0]!, 'a', name)),
  );
  await expect.poll(filesAsked, PATIENT).toBe(before + 10);
});

test('a tree that is copied comes in few calls', async () => {
  const dir = tempDir();
  const path = join(dir, 'copied');
  writeTree(path, nested(3, 12));
  const store = `local://${dir}/store`;
  const { stdout } = await tvixStore(['import', '--store', store, path]);
  const daemon = await startDaemon(store);
  const proxy = await TcpProxy.start(daemon.port);
  // What comes in one call comes at the same moment.
  proxy.roundTrip = 50;
  const mounted = await mountStore(['--store', proxy.url, '--cache', join(dir, 'cache')]);
  const source = join(mounted.dir, basename(stdout.trim()));
  expect(await run('cp', ['-r', source, join(dir, 'copy')])).toMatchObject({ status: 0 });
  expect(await run('diff', ['-r', path, join(dir, 'copy')])).toMatchObject({ stdout: '' });
  const { log } = await mounted.stop();
  const [, requests, hits] = /unmounted requests=(\d+).* hits=(\d+)/.exec(log)!;
  // 480 files in 40 directories.
  expect(Number(requests) - Number(hits)).toBeLessThan(100);
});
