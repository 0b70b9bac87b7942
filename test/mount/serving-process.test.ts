import { once } from 'node:events';
import { cpSync, mkdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { run, startTvixStore, tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { cat } from '../helpers/gated-mount.ts';
import { endLater, mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { killLater } from '../helpers/virtiofs.ts';

const HELPERS = join(import.meta.dirname, '../helpers');
const dir = tempDir();
const store = `local://${dir}/store`;
const large = randomBytes(900_000, 'large');
let name: string;

beforeAll(async () => {
  const tree = join(dir, 'tree');
  mkdirSync(tree);
  for (const file of ['one', 'two', 'three']) writeFileSync(join(tree, file), `contents of ${file}`);
  writeFileSync(join(tree, 'large'), large);
  const { stdout } = await tvixStore(['import', '--store', store, tree]);
  name = stdout.trim().slice('/nix/store/'.length);
});

/** Arguments of a mount of a far store. */
const far = (url: string) => ['--store', url, '--cache', join(tempDir(), 'cache')];

describe('a serving thread that fails', () => {
  /** Makes the next request of a mount that is started with `env` end its thread. */
  function breaker() {
    const file = join(tempDir(), 'fault');
    const env = {
      ...process.env,
      NODE_OPTIONS: `--import=${join(HELPERS, 'broken-thread.mjs')}`,
      FAULT_FILE: file,
    };
    return { env, arm: () => writeFileSync(file, '') };
  }

  test.each([1, 2])('of %d is replaced, and what it had taken is answered', async (readers) => {
    const daemon = await startDaemon(store);
    const { env, arm } = breaker();
    const mounted = await mount([...far(daemon.url), '--readers', String(readers)], undefined, { env });
    const at = (file: string) => join(mounted.dir, name, file);
    expect((await run('cat', [at('one')])).stdout).toBe('contents of one');
    // Each thread has something that it waits for.
    daemon.child.kill('SIGSTOP');
    const waiting = ['two', 'three', 'large'].map((file) => cat(at(file)));
    await delay(500);
    expect(waiting.map((reader) => reader.done())).toEqual([false, false, false]);
    for (let i = 0; i < readers; i++) {
      arm();
      // Whatever becomes of this one, it is answered.
      await run('stat', ['-f', mounted.dir], { timeout: 20_000 });
      await expect
        .poll(() => mounted.log().split('a serving thread failed').length - 1, { timeout: 20_000 })
        .toBe(i + 1);
    }
    daemon.child.kill('SIGCONT');
    // The kernel asks once more for a page that it could not have.
    for (const reader of waiting) {
      const { status, signal, stderr } = await reader.ended;
      expect(signal).toBe(null);
      if (status !== 0) expect(stderr).toContain('connection abort');
    }
    expect((await run('cat', [at('two')])).stdout).toBe('contents of two');
    expect((await run('cmp', [at('large'), join(dir, 'tree/large')])).status).toBe(0);
    const { status, log } = await mounted.stop();
    expect([status, log]).toEqual([0, expect.stringContaining('thrown by the test in a serving thread')]);
  });

  test('again and again ends the mount with 1, and leaves nothing mounted', async () => {
    const { env, arm } = breaker();
    const mounted = await mount(['--store', store], undefined, { env });
    const ended = once(mounted.child, 'exit');
    let isOver = false;
    void ended.then(() => {
      isOver = true;
    });
    for (let i = 0; i < 20 && !isOver; i++) {
      arm();
      await run('stat', ['-f', mounted.dir], { timeout: 20_000 });
    }
    expect(await ended).toEqual([1, null]);
    expect(mounted.log()).toMatch(/^error: the kernel cannot be served any longer: thrown by the test/m);
    expect(readFileSync('/proc/self/mounts', 'utf8')).not.toContain(mounted.dir);
  });

  test('ends a device for a virtual machine with 1', async () => {
    const { env, arm } = breaker();
    const socket = join(tempDir(), 'socket');
    const child = await startTvixStore(['virtiofs', '--store', store, socket], 'info: listening', { env });
    killLater(child);
    const ended = once(child, 'exit');
    arm();
    // Whoever connects wakes it.
    void run('python3', ['-c', `import socket; socket.socket(socket.AF_UNIX).connect("${socket}")`]);
    expect(await ended).toEqual([1, null]);
    expect(child.log()).toMatch(/^error: the thread that served the guest failed: thrown by the test/m);
  });
});

test('a main thread that waits for its own mount gets an error, and the mount goes on', async () => {
  const daemon = await startDaemon(store);
  const mnt = join(tempDir(), 'mnt');
  mkdirSync(mnt);
  const env = {
    ...process.env,
    NODE_OPTIONS: `--import=${join(HELPERS, 'self-reader.mjs')}`,
    SELF_READ: join(mnt, name, 'one'),
  };
  const mounted = await mount(far(daemon.url), mnt, { env });
  process.kill(mounted.pid, 'SIGUSR2');
  await expect.poll(() => mounted.log(), { timeout: 40_000 }).toContain('self: EIO');
  expect(mounted.log()).toContain('the fetch side does not answer');
  expect((await run('cat', [join(mnt, name, 'one')], { timeout: 20_000 })).stdout).toBe('contents of one');
  expect((await mounted.stop()).status).toBe(0);
});

test('a mount works from the root folder, wherever it was started', async () => {
  const mnt = join(tempDir(), 'mnt');
  mkdirSync(join(mnt, 'within'), { recursive: true });
  const child = await startTvixStore(['mount', '--store', store, '..'], 'info: mounted', {
    cwd: join(mnt, 'within'),
  });
  endLater(child, mnt);
  expect(readlinkSync(`/proc/${child.pid}/cwd`)).toBe('/');
  expect((await run('cat', [join(mnt, name, 'one')])).stdout).toBe('contents of one');
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  expect(await ended).toEqual([0, null]);
});

test.each([
  ['deleted', () => {}],
  ['replaced by a file', (cache: string) => writeFileSync(cache, '')],
  ['replaced by another', (cache: string) => cpSync(join(dir, 'store'), cache, { recursive: true })],
])('a cache that is %s under a mount does not keep it from answering', async (_, replace) => {
  const daemon = await startDaemon(store);
  const cache = join(tempDir(), 'cache');
  const mounted = await mount(['--store', daemon.url, '--cache', cache]);
  const at = (file: string) => join(mounted.dir, name, file);
  expect((await run('cat', [at('one')])).stdout).toBe('contents of one');
  rmSync(cache, { recursive: true });
  replace(cache);
  expect((await run('stat', ['-f', mounted.dir])).status).toBe(0);
  expect((await run('cat', [at('two')], { timeout: 20_000 })).stdout).toBe('contents of two');
  expect((await run('cmp', [at('large'), join(dir, 'tree/large')], { timeout: 30_000 })).stderr).toBe('');
  const { status, log } = await mounted.stop();
  expect(status).toBe(0);
  expect(log).not.toMatch(/^ {4}at /m);
});

test('counters go on beyond 2^31', async () => {
  const { COUNTER } = await import('../../src/fuse/counters.ts');
  const { CONTROL, Dispatcher } = await import('../../src/fuse/dispatcher.ts');
  const { OP } = await import('../../src/fuse/opcodes.ts');
  const { MessageChannel } = await import('node:worker_threads');
  const counters = new Float64Array(COUNTER.LENGTH).fill(2 ** 32);
  const { port1, port2 } = new MessageChannel();
  const dispatcher = new Dispatcher<undefined>(
    {
      wakeFd: -1,
      control: new Int32Array(CONTROL.LENGTH),
      counters,
      port: port1,
      fs: {} as never,
      handler: () => 100,
      onPayload: () => {},
    },
    () => {},
  );
  const request = Buffer.alloc(80);
  request.writeUInt32LE(OP.READ, 4);
  dispatcher.serve(request, undefined);
  expect([counters[COUNTER.REQUESTS + OP.READ], counters[COUNTER.READ_BYTES]]).toEqual([
    2 ** 32 + 1,
    2 ** 32 + 100,
  ]);
  port2.close();
});
