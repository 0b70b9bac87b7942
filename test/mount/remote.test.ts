import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { run, tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon } from '../helpers/daemon.ts';
import type { TestMount } from '../helpers/mount.ts';
import { mount } from '../helpers/mount.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree, symlink, writeTree } from '../helpers/trees.ts';

const MIB = 1 << 20;
const MAX_CHUNK = MIB / 2;
/** Read ahead of a sequential reader at the most. */
const READ_AHEAD = 8 * MIB;
const LARGE = 48 * MIB;
/** What may be fetched for what was read, and what a connection and its calls cost. */
const SLACK = 1.1;
const TALK = 64 * 1024;

const dir = tempDir();
const tree = join(dir, 'tree');
const wide = join(dir, 'wide');
const large = join(dir, 'large');
const store = `local://${dir}/store`;
let daemon: TestDaemon;
let proxy: TcpProxy;
let names: { tree: string; wide: string; large: string };

beforeAll(async () => {
  writeTree(
    tree,
    directory({
      generated: generateTree(250, 7),
      empty: directory(),
      nothing: file(''),
      script: file('#!/bin/sh\necho ran\n', true),
      link: symlink('script'),
      'two-chunks': file(randomBytes(700_000, 'two chunks')),
      'not-utf8-\xff': file('bytes'),
    }),
  );
  for (let i = 0; i < 1000; i++)
    mkdirSync(join(wide, `a${i % 10}/b${Math.floor(i / 10) % 10}/c${i}`), { recursive: true });
  for (let i = 0; i < 1000; i++)
    writeFileSync(join(wide, `a${i % 10}/b${Math.floor(i / 10) % 10}/c${i}/file`), `contents of ${i}`);
  writeFileSync(large, randomBytes(LARGE, 'large'));
  const { stdout, stderr } = await tvixStore(['import', '--store', store, tree, wide, large]);
  const paths = stdout.trim().split('\n');
  expect(paths.length, stderr).toBe(3);
  const [first, second, third] = paths.map((path) => path.slice('/nix/store/'.length));
  names = { tree: first!, wide: second!, large: third! };
  daemon = await startDaemon(store);
  proxy = await TcpProxy.start(daemon.port);
});
afterAll(async () => {
  proxy.close();
  await daemon.stop('SIGKILL');
});
beforeEach(() => {
  proxy.flow();
  proxy.roundTrip = 0;
  proxy.rate = Number.POSITIVE_INFINITY;
});

const newCache = () => join(tempDir(), 'cache');
const mountRemote = (cache: string, ...args: string[]) =>
  mount(['--store', proxy.url, '--cache', cache, ...args]);

/** That a mount shows the tree as it was imported; bytes by which it differs otherwise. */
async function same(mounted: TestMount, name = names.tree, original = tree): Promise<void> {
  const { status, stdout, stderr } = await run('diff', [
    '-r',
    '--no-dereference',
    original,
    join(mounted.dir, name),
  ]);
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' });
}

const digestOf = (path: string) =>
  run('sha256sum', [path]).then(({ stdout, stderr }) => stdout.split(' ')[0] || stderr);

/** Reads a part of a file in another process. */
const readPart = (path: string, offset: number, length: number) =>
  run('sh', ['-c', `tail -c +${offset + 1} "$1" | head -c ${length} | sha256sum`, 'sh', path]);

describe('a mount of a store that is far away', () => {
  test('shows the tree as it is, asks for it once, and needs nobody afterwards', async () => {
    const cache = newCache();
    const first = await mountRemote(cache);
    await same(first);
    const again = await proxy.count(() => same(first));
    expect([again.up, again.down]).toEqual([0, 0]);

    // Another mount of the same cache, beside the first.
    const second = await mountRemote(cache);
    const beside = await proxy.count(() => same(second));
    expect([beside.up, beside.down]).toEqual([0, 0]);
    expect((await first.stop()).status).toBe(0);
    expect((await second.stop()).status).toBe(0);

    // And with nobody there to ask.
    const gone = ['--store', 'grpc+http://127.0.0.1:1', '--cache', cache];
    for (const args of [gone, [...gone, '--offline']]) {
      const mounted = await mount(args);
      await same(mounted);
      expect((await mounted.stop()).status).toBe(0);
    }
  });

  test('says EIO offline for what was not fetched, and that a path does not exist', async () => {
    const cache = newCache();
    const online = await mountRemote(cache);
    await stat(join(online.dir, names.tree));
    expect(await readFile(join(online.dir, names.tree, 'script'), 'latin1')).toContain('echo ran');
    await online.stop();
    const offline = await mountRemote(cache, '--offline');
    const counted = await proxy.count(async () => {
      expect(await readFile(join(offline.dir, names.tree, 'script'), 'latin1')).toContain('echo ran');
      await expect(readFile(join(offline.dir, names.tree, 'two-chunks'))).rejects.toThrow('EIO');
      await expect(stat(join(offline.dir, names.wide))).rejects.toThrow('ENOENT');
    });
    expect([counted.up, counted.down]).toEqual([0, 0]);
    await offline.stop();
  });

  test('knows what does not exist, and does not wait long for what has come since', async () => {
    const mounted = await mountRemote(newCache());
    const late = join(dir, 'late');
    writeFileSync(late, `came later, at ${process.pid}`);
    const { stdout } = await tvixStore(['import', '--store', 'memory://', late]);
    const name = stdout.trim().slice('/nix/store/'.length);
    await expect(stat(join(mounted.dir, name))).rejects.toThrow('ENOENT');
    await tvixStore(['import', '--store', store, late]);
    await expect
      .poll(() => readFile(join(mounted.dir, name), 'utf8').catch(String), { timeout: 10_000 })
      .toContain('came later');
    await mounted.stop();
  });

  test('lists the root when it may', async () => {
    const mounted = await mountRemote(newCache(), '--list-root');
    expect(await readdir(mounted.dir)).toEqual(expect.arrayContaining(Object.values(names)));
    await mounted.stop();
  });

  test('serves two mounts on one cache at the same time', async () => {
    const cache = newCache();
    const [one, other] = await Promise.all([mountRemote(cache), mountRemote(cache)]);
    await Promise.all([same(one), same(other), same(one, names.wide, wide), same(other, names.wide, wide)]);
    expect(await digestOf(join(one.dir, names.large))).toBe(await digestOf(large));
    expect(await digestOf(join(other.dir, names.large))).toBe(await digestOf(large));
    await Promise.all([one.stop(), other.stop()]);
  });
});

describe('of a large file', () => {
  test('only what is read is fetched', async () => {
    const mounted = await mountRemote(newCache());
    const path = join(mounted.dir, names.large);
    await stat(path);
    // In no order, far from each other: two chunks each, since the kernel reads on a little.
    const offsets = [40, 5, 30, 12, 22].map((at) => at * MIB + 1234);
    const { down } = await proxy.count(async () => {
      const { stdout, stderr } = await run('python3', [
        '-c',
        'import os, sys, hashlib\n' +
          'fd = os.open(sys.argv[1], os.O_RDONLY)\n' +
          'for at in sys.argv[2:]: print(hashlib.sha256(os.pread(fd, 1000, int(at))).hexdigest())',
        path,
        ...offsets.map(String),
      ]);
      const original = await readFile(large);
      const expected = offsets.map((at) =>
        createHash('sha256')
          .update(original.subarray(at, at + 1000))
          .digest('hex'),
      );
      expect(stdout.trim().split('\n'), stderr).toEqual(expected);
    });
    expect(down).toBeLessThan(offsets.length * 2 * MAX_CHUNK * SLACK + TALK);
    await mounted.stop();
  });

  test('a reader from the start gets a window of read-ahead, not the whole', async () => {
    const mounted = await mountRemote(newCache());
    const path = join(mounted.dir, names.large);
    const length = 6 * MIB;
    const { down } = await proxy.count(async () => {
      const { stdout } = await readPart(path, 0, length);
      expect(stdout).toBe((await readPart(large, 0, length)).stdout);
      await delay(300);
    });
    // The kernel, too, reads on before `head` ends, and the pipe holds some.
    expect(down).toBeLessThan((length + 2 * MIB + MAX_CHUNK) * SLACK + READ_AHEAD + TALK);
    const whole = await proxy.count(() => digestOf(path));
    expect(whole.result).toBe(await digestOf(large));
    // All of it once, in both readings together.
    expect(down + whole.down).toBeLessThan(LARGE * SLACK + TALK);
    await mounted.stop();
  });
});

describe('when the network is slow, or cut', () => {
  test('a tree of 1000 directories costs a few round trips', async () => {
    const mounted = await mountRemote(newCache());
    proxy.roundTrip = 20;
    const before = proxy.sent;
    const { stdout } = await run('find', [join(mounted.dir, names.wide), '-type', 'd']);
    expect(stdout.trim().split('\n').length).toBe(1 + 10 + 100 + 1000);
    // Calls, answers to pings, and word of what has been taken; one by one it would be more than a thousand.
    expect(proxy.sent - before).toBeLessThan(100);
    await mounted.stop();
  });

  test('a stalled read ends with EIO, the rest goes on, and it works again without remounting', async () => {
    const mounted = await mountRemote(newCache(), '--timeout', '2s');
    const path = join(mounted.dir, names.tree);
    expect((await run('cat', [join(path, 'script')])).stdout).toContain('echo ran');
    proxy.stall();
    const begun = Date.now();
    const stalled = Promise.all([
      run('cat', [join(path, 'two-chunks')]),
      run('ls', [join(mounted.dir, names.wide)]),
    ]);
    await delay(300);
    expect((await run('cat', [join(path, 'script')])).stdout).toContain('echo ran');
    // It did not wait for them: they are still waiting.
    expect(await Promise.race([stalled.then(() => 'over'), delay(0, 'waiting')])).toBe('waiting');
    for (const { stderr } of await stalled) expect(stderr).toContain('Input/output error');
    expect(Date.now() - begun).toBeGreaterThan(1500);
    expect(Date.now() - begun).toBeLessThan(8000);
    proxy.flow();
    expect(await digestOf(join(path, 'two-chunks'))).toBe(await digestOf(join(tree, 'two-chunks')));
    await same(mounted);
    await same(mounted, names.wide, wide);
    await mounted.stop();
  });

  test('a wait that is longer than the timeout goes on while bytes arrive', async () => {
    // Nothing is served before all of it is there, which is one wait.
    const mounted = await mountRemote(newCache(), '--timeout', '2s', '--verify=whole');
    const path = join(mounted.dir, names.large);
    await stat(path);
    proxy.rate = 12 * MIB;
    const begun = Date.now();
    expect((await readPart(path, 0, 1)).stdout).toBe((await readPart(large, 0, 1)).stdout);
    expect(Date.now() - begun).toBeGreaterThan(3000);
    await mounted.stop();
  });

  test('connections that are reset again and again cost a retry', async () => {
    const mounted = await mountRemote(newCache());
    proxy.roundTrip = 4;
    const copy = join(tempDir(), 'copy');
    const copying = run('cp', ['-r', join(mounted.dir, names.tree), copy]);
    for (let i = 0; i < 5; i++) {
      await delay(60);
      proxy.reset();
    }
    await copying;
    await same(mounted);
    proxy.reset();
    expect(await digestOf(join(mounted.dir, names.large))).toBe(await digestOf(large));
    await mounted.stop();
  });

  test('a daemon killed and started again in the middle of cp -r costs at most a retry', async () => {
    const killed = await startDaemon(store);
    proxy.target = killed.port;
    const mounted = await mountRemote(newCache());
    proxy.roundTrip = 4;
    const copy = join(tempDir(), 'copy');
    const from = join(mounted.dir, names.tree);
    const before = proxy.down;
    const copying = run('cp', ['-r', from, copy]);
    while (proxy.down - before < 200_000) await delay(5);
    await killed.stop('SIGKILL');
    const restarted = await startDaemon(store);
    proxy.target = restarted.port;
    const { status } = await copying;
    if (status !== 0) {
      const retry = await run('cp', ['-rT', from, copy]);
      expect(retry).toMatchObject({ status: 0, stderr: '' });
    }
    const { status: differs, stdout } = await run('diff', ['-r', '--no-dereference', tree, copy]);
    expect({ differs, stdout }).toEqual({ differs: 0, stdout: '' });
    await mounted.stop();
    await restarted.stop();
    proxy.target = daemon.port;
  });

  test('a daemon that comes later is found', async () => {
    const late = await TcpProxy.start(1);
    const mounted = await mount(['--store', late.url, '--cache', newCache(), '--timeout', '2s']);
    await expect(stat(join(mounted.dir, names.tree))).rejects.toThrow('EIO');
    late.target = daemon.port;
    await expect
      .poll(() => stat(join(mounted.dir, names.tree)).then(() => 'there', String), { timeout: 10_000 })
      .toBe('there');
    await same(mounted);
    await mounted.stop();
  });
});
