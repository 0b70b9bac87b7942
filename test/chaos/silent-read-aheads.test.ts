import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { run, tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';

const MIB = 1 << 20;
const FILES = 6;
const LARGE = 24 * MIB;
const TIMEOUT_MS = 8000;
/** Whoever waits twice is behind that, however fast this machine is. */
const TWICE_MS = 2 * TIMEOUT_MS - 1000;

const dir = tempDir();
const tree = join(dir, 'tree');
const store = `local://${dir}/store`;
let daemon: TestDaemon;
let name: string;

beforeAll(async () => {
  mkdirSync(tree);
  for (let i = 0; i < FILES; i++) writeFileSync(join(tree, `${i}`), randomBytes(LARGE, `file ${i}`));
  const { stdout } = await tvixStore(['import', '--store', store, tree]);
  name = stdout.trim().slice('/nix/store/'.length);
  daemon = await startDaemon(store);
});
afterAll(() => daemon.stop('SIGKILL'));

/** Reads a file from somewhere on, so many bytes at a time. */
const PYTHON = `
import os, sys
path, at, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
file = os.open(path, os.O_RDONLY)
while part := os.pread(file, size, at): at += len(part)
`;

interface Readers {
  readonly who: string;
  /** Which file each reads, and from where on. */
  readonly readers: readonly (readonly [file: number, at: number])[];
  /** Bytes at a time. */
  readonly size: number;
}

const READERS: readonly Readers[] = [
  { who: 'a reader of a file', readers: [[0, 0]], size: 4 * MIB },
  {
    who: 'each of many readers of the same part of a file',
    readers: Array.from({ length: 6 }, () => [0, 0]),
    size: 128 * 1024,
  },
  {
    who: 'each of many readers of a file in several places',
    readers: Array.from({ length: 5 }, (_, i) => [0, i * 4 * MIB]),
    size: 4 * MIB,
  },
  {
    who: 'each reader of many files',
    readers: Array.from({ length: FILES }, (_, i) => [i, 0]),
    size: 128 * 1024,
  },
];

test.for(READERS)('$who waits only once when the store falls silent', async ({ readers, size }) => {
  const proxy = await TcpProxy.start(daemon.port);
  const timeout = `${TIMEOUT_MS / 1000}s`;
  const there = await mount([
    '--store',
    proxy.url,
    '--cache',
    join(tempDir(), 'cache'),
    '--timeout',
    timeout,
  ]);
  Object.assign(proxy, { rate: 8 * MIB, isOneLine: true });
  const path = (file: number) => join(there.dir, name, `${file}`);
  const reading = readers.map(([file, at]) => run('python3', ['-c', PYTHON, path(file), `${at}`, `${size}`]));
  while (proxy.down < 3 * MIB) await delay(10);
  proxy.stall();
  const begun = performance.now();
  for (const { stderr } of await Promise.all(reading)) expect(stderr).toContain('Input/output error');
  const took = performance.now() - begun;
  expect(took).toBeGreaterThan(TIMEOUT_MS / 2);
  expect(took).toBeLessThan(TWICE_MS);
  // And what was not there for them is there for who comes at once, though that takes another connection.
  proxy.forget();
  proxy.flow();
  proxy.rate = Number.POSITIVE_INFINITY;
  const compared = await run('cmp', [path(0), join(tree, '0')]);
  expect(compared).toMatchObject({ status: 0, stderr: '' });
  await there.stop();
});
