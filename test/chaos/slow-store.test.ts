import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { run, tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';

const MIB = 1 << 20;
/** Several chunks each. */
const READERS = 24;
const FILE = 700_000;
const LARGE = 16 * MIB;
/** One message each, and less than is taken for one chunk. */
const SMALL = 100_000;
const SMALL_FILES = 40;
/** More than is brought ahead, 4 KB each. */
const DIRECTORIES = 6000;
const DIRECTORY = 4000;
/** What may be fetched for what was read, and what a connection and its calls cost. */
const SLACK = 1.2;
const TALK = 64 * 1024;

const dir = tempDir();
const files = join(dir, 'files');
const wide = join(dir, 'wide');
const store = `local://${dir}/store`;
let daemon: TestDaemon;
let proxy: TcpProxy;
let names: { files: string; wide: string };

beforeAll(async () => {
  mkdirSync(join(files, 'small'), { recursive: true });
  for (let i = 0; i < READERS; i++) writeFileSync(join(files, `${i}`), randomBytes(FILE, `file ${i}`));
  for (let i = 0; i < SMALL_FILES; i++)
    writeFileSync(join(files, `small/${i}`), randomBytes(SMALL, `small ${i}`));
  writeFileSync(join(files, 'large'), randomBytes(LARGE, 'large'));
  for (let i = 0; i < DIRECTORIES; i++) {
    const one = join(wide, `a${i % 10}/b${i}`);
    mkdirSync(one, { recursive: true });
    symlinkSync(`${i}-`.padEnd(DIRECTORY, '/x'), join(one, 'link'));
  }
  const { stdout, stderr } = await tvixStore(['import', '--store', store, files, wide]);
  const paths = stdout.trim().split('\n');
  expect(paths.length, stderr).toBe(2);
  const [first, second] = paths.map((path) => path.slice('/nix/store/'.length));
  names = { files: first!, wide: second! };
  daemon = await startDaemon(store);
});
beforeEach(async () => {
  proxy = await TcpProxy.start(daemon.port);
});
afterAll(() => daemon.stop('SIGKILL'));

const mountRemote = (...args: string[]) =>
  mount(['--store', proxy.url, '--cache', join(tempDir(), 'cache'), ...args]);

/** Compares a file with its original, in a process of its own. */
const compare = (root: string, name: string) => run('cmp', [join(root, name), join(files, name)]);

test('of many who read over a slow line at once, everybody gets everything, and it is fetched once', async () => {
  const mounted = await mountRemote('--timeout', '3s');
  const root = join(mounted.dir, names.files);
  await run('ls', [root]);
  // Eight seconds for all of it.
  proxy.rate = 2 * MIB;
  const { result, down } = await proxy.count(() =>
    Promise.all(Array.from({ length: READERS }, (_, i) => compare(root, `${i}`))),
  );
  expect(result.filter(({ status }) => status !== 0)).toEqual([]);
  expect(down).toBeLessThan(READERS * FILE * SLACK + TALK);
  await mounted.stop();
});

test('what arrives little by little is progress before a message is whole', async () => {
  const mounted = await mountRemote('--timeout', '2s');
  const root = join(mounted.dir, names.files);
  await run('ls', [join(root, 'small')]);
  // Seven seconds for four messages, which come one after the other or all at once.
  proxy.rate = 60_000;
  const all = await Promise.all([0, 1, 2, 3].map((i) => compare(root, `small/${i}`)));
  for (const result of all) expect(result).toMatchObject({ status: 0, stderr: '' });
  await mounted.stop();
});

test('whoever waits for little waits for no more than what is under way', async () => {
  const mounted = await mountRemote();
  const root = join(mounted.dir, names.files);
  await run('ls', [join(root, 'small')]);
  proxy.rate = MIB;
  const bulk = [compare(root, 'large'), ...Array.from({ length: READERS }, (_, i) => compare(root, `${i}`))];
  let ended = 0;
  for (const reader of bulk) void reader.then(() => ended++);
  // The line is known by then.
  while (proxy.down < 6 * MIB) await delay(20);
  // In this process, since one that has to be started first takes who knows how long.
  const { result, down } = await proxy.count(() => readFile(join(root, 'small/1')));
  expect(result.equals(await readFile(join(files, 'small/1')))).toBe(true);
  expect(ended).toBeLessThan(bulk.length);
  expect(down).toBeLessThan(3 * MIB);
  proxy.rate = Number.POSITIVE_INFINITY;
  expect((await Promise.all(bulk)).filter(({ status }) => status !== 0)).toEqual([]);
  await mounted.stop();
});

test('that for which nothing comes fails once, whoever wants it, and what comes afterwards is read', async () => {
  const mounted = await mountRemote('--timeout', '2s');
  const root = join(mounted.dir, names.files);
  await run('ls', [join(root, 'small')]);
  proxy.stall();
  const readers = ['0', 'small/2', 'large'].map((name) => compare(root, name));
  // For the same name, the kernel asks for each of them, one after the other.
  for (let i = 0; i < 8; i++) readers.push(run('ls', [join(mounted.dir, names.wide)]));
  for (const { stderr } of await Promise.all(readers)) expect(stderr).toContain('Input/output error');
  // The second tries, for reads page by page, did not wait as well; on a busy machine one may.
  expect(mounted.log().match(/cannot fetch/g)?.length).toBeLessThan(4 + 4);
  proxy.flow();
  for (const name of ['0', 'small/2', 'large'])
    expect(await compare(root, name)).toMatchObject({ status: 0, stderr: '' });
  await mounted.stop();
});

test('what is below a directory comes a little ahead of who reads it, and no further', async () => {
  const mounted = await mountRemote();
  const { down } = await proxy.count(async () => {
    await run('ls', [join(mounted.dir, names.wide)]);
    // The stream stands still, or is over.
    for (let before = -1; before !== proxy.down; await delay(500)) before = proxy.down;
  });
  // Besides that, the connection's own window.
  expect(down).toBeLessThan(8 * MIB);
  expect(down).toBeLessThan((DIRECTORIES * DIRECTORY) / 2);
  const { stdout } = await run('find', [join(mounted.dir, names.wide), '-type', 'l']);
  expect(stdout.trim().split('\n').length).toBe(DIRECTORIES);
  await mounted.stop();
});
