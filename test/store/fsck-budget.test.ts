import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { checkOn } from '../../src/store/keeping/fsck.ts';
import { startTvixStore, tvixStore } from '../helpers/cli.ts';
import { randomBytes } from '../helpers/random.ts';
import { chunkFiles, rot } from '../helpers/rot.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

const FILES = 40;
const SIZE = 300_000;

let dir: string;
let store: string[];

beforeEach(async () => {
  const parent = tempDir();
  dir = join(parent, 'store');
  store = ['--store', `local://${dir}`];
  const files = Array.from({ length: FILES }, (_, i) => [`f${i}`, file(randomBytes(SIZE, `f${i}`))]);
  writeTree(join(parent, 'tree'), directory(Object.fromEntries(files)));
  expect(await tvixStore(['import', ...store, join(parent, 'tree')])).toMatchObject({ status: 0 });
});

const part = () => tvixStore(['fsck', ...store, '--budget', '1s', '--rate', '4M', '--json']);
const stats = async () => JSON.parse((await tvixStore(['stats', ...store, '--json'])).stdout);

test('a check goes on where the last one has stopped, and remembers its result', async () => {
  expect(await stats()).not.toHaveProperty('lastCheck');
  let bytes = 0;
  let runs = 0;
  for (let complete = false; !complete; runs++) {
    expect(runs).toBeLessThan(20);
    const { status, stdout, stderr } = await part();
    expect([status, stderr]).toEqual([0, '']);
    const report = JSON.parse(stdout);
    bytes += report.bytes;
    expect(report.since.bytes).toBe(bytes);
    expect(report.seconds).toBeLessThan(5);
    complete = report.complete;
    const { runningCheck } = await stats();
    expect(runningCheck?.bytes).toBe(complete ? undefined : bytes);
  }
  // 12 MB at 4 MB a second, one second each.
  expect(runs).toBeGreaterThan(2);
  expect(bytes).toBeGreaterThan(FILES * SIZE);
  expect(bytes).toBeLessThan(FILES * SIZE * 1.1);
  const { lastCheck } = await stats();
  expect(lastCheck).toMatchObject({ isSound: true, bytes, damages: 0 });
  expect((await tvixStore(['stats', ...store])).stdout).toMatch(/^last check: .*Z: all was well$/m);
  // From the beginning again.
  expect(JSON.parse((await part()).stdout).since.bytes).toBeLessThan(bytes);
});

test('what is damaged is told by every part, until it is mended', async () => {
  for (const path of chunkFiles(dir)) rot(path);
  const first = await part();
  expect(first.status).toBe(1);
  const { damages, paths, complete } = JSON.parse(first.stdout);
  expect([complete, damages.length > 0, paths.length]).toEqual([false, true, 1]);
  const second = JSON.parse((await part()).stdout);
  expect(second.damages.length).toBeGreaterThan(damages.length);
  expect(second.damages).toEqual(expect.arrayContaining(damages));
  expect((await tvixStore(['stats', ...store])).stdout).toMatch(
    /the next one has looked at \d+ rows, \d+ of them/,
  );
  const last = await tvixStore(['fsck', ...store, '--budget', '1h']);
  expect(last).toMatchObject({ status: 1, stdout: expect.stringContaining('; --repair mends that') });
  const repaired = await tvixStore(['fsck', ...store, '--repair']);
  expect(repaired.status).toBe(1);
  expect((await stats()).lastCheck).toMatchObject({ isSound: false, isRepaired: true, damagedPaths: 1 });
  expect((await stats()).runningCheck).toBeUndefined();
  expect(await part()).toMatchObject({ status: 0 });
});

test('what is remembered may be lost, or nonsense', async () => {
  await part();
  for (const contents of [
    '',
    '{',
    'null',
    '[]',
    '{"running":{"next":1}}',
    '{"running":{"begun":1,"damages":[{}]}}',
  ]) {
    writeFileSync(join(dir, 'fsck.json'), contents);
    const { status, stdout } = await part();
    expect([contents, status, JSON.parse(stdout).objects > 0]).toEqual([contents, 0, true]);
  }
  rmSync(join(dir, 'fsck.json'));
  expect(await part()).toMatchObject({ status: 0 });
  expect(JSON.parse(readFileSync(join(dir, 'fsck.json'), 'utf8'))).toHaveProperty('running');
});

test('rows that come and go between the parts are no damage', async () => {
  await checkOn(dir, { budgetMs: 300, rate: 4 << 20 });
  writeFileSync(join(dir, '../more'), randomBytes(SIZE, 'more'));
  await tvixStore(['import', ...store, join(dir, '../more')]);
  await tvixStore(['gc', ...store, '--older-than', '0']);
  for (let runs = 0; runs < 20; runs++) {
    const { damages, next } = await checkOn(dir, { budgetMs: 300 });
    expect(damages).toEqual([]);
    if (!next) return;
  }
  throw new Error('it does not come to an end');
});

test('a binary cache tells of the last check in its metrics', async () => {
  const bridge = await startTvixStore(['nar-bridge', ...store, '-l', '127.0.0.1:0'], 'listening');
  const [, at] = /at="?(127\.0\.0\.1:\d+)/.exec(bridge.log())!;
  const metrics = async () => (await fetch(`http://${at}/metrics`)).text();
  expect(await metrics()).toMatch(/^tvix_store_fsck_last_finished_seconds 0$/m);
  for (const path of chunkFiles(dir).slice(0, 3)) rot(path);
  await tvixStore(['fsck', ...store]);
  const told = await metrics();
  expect(Number(/^tvix_store_fsck_last_finished_seconds (\d+)$/m.exec(told)![1])).toBeGreaterThan(1.7e9);
  expect(told).toMatch(/^tvix_store_fsck_damaged_rows 3$/m);
  expect(told).toMatch(/^tvix_store_fsck_damaged_paths 1$/m);
  bridge.kill();
});

test('a budget and a rate are for checking, not for repairing', async () => {
  for (const flags of [
    ['--budget', '10m'],
    ['--rate', '1M'],
  ])
    expect(await tvixStore(['fsck', ...store, '--repair', ...flags])).toMatchObject({ status: 2 });
  for (const flags of [
    ['--budget', '10'],
    ['--rate', '0'],
    ['--rate', '1B'],
  ])
    expect(await tvixStore(['fsck', ...store, ...flags])).toMatchObject({ status: 2 });
});
