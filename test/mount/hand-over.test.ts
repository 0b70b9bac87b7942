import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { run } from '../helpers/cli.ts';
import type { GatedOptions } from '../helpers/gated-mount.ts';
import { cat, digestOf, GatedMount, start } from '../helpers/gated-mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, symlink, writeTree } from '../helpers/trees.ts';

const EIO = { status: 1, stderr: expect.stringContaining('Input/output error') };
/** What a reader that leaves, or a mount that ends, may take: a second, and room for a busy machine. */
const SOON_MS = 3000;
const SOON = { timeout: SOON_MS, interval: 20 };
const PATIENT = { timeout: 20_000, interval: 20 };

const MANY = 200;
/** More than one chunk. */
const LARGE = randomBytes(3_000_000, 'large');
const LARGE_NEAR = randomBytes(600_000, 'large and near');
/** A single chunk, but longer than blobs that are known to be one. */
const MIDDLE = randomBytes(131_073, 'middle');
const tree = join(tempDir(), 'tree');

beforeAll(() => {
  const many = Array.from({ length: MANY }, (_, i) => [`file-${i}`, file(`contents ${i}`)] as const);
  writeTree(
    tree,
    directory({
      near: file('near'),
      'large-near': file(LARGE_NEAR),
      far: file('far'),
      large: file(LARGE),
      middle: file(MIDDLE),
      link: symlink('far'),
      many: directory(Object.fromEntries(many)),
      deep: directory({ deeper: directory({ leaf: file('leaf') }) }),
    }),
  );
});

const mounts: GatedMount[] = [];

async function startMount(options: Omit<GatedOptions, 'trees'>): Promise<GatedMount & { root: string }> {
  const mount = await GatedMount.start({ trees: [tree], ...options });
  mounts.push(mount);
  return Object.assign(mount, { root: mount.roots[0]! });
}

let warmCache: Promise<string> | undefined;

/** A cache that holds all directories and the files that are near. */
async function makeWarmCache(): Promise<string> {
  const mount = await startMount({});
  await run('ls', ['-lR', mount.root]);
  for (const name of ['near', 'large-near']) await run('cat', [join(mount.root, name)]);
  await mount.stop();
  return mount.cacheDir;
}

/** A mount with a copy of that cache, and a kernel that knows nothing. */
async function startWarm(options: Omit<GatedOptions, 'trees'>): Promise<GatedMount & { root: string }> {
  warmCache ??= makeWarmCache();
  const cacheDir = join(tempDir(), 'cache');
  await cp(await warmCache, cacheDir, { recursive: true });
  return startMount({ ...options, cacheDir });
}

/** Ends the mounts of a test, so that none of them burdens the next. */
async function stopAll(): Promise<void> {
  for (const mount of mounts.splice(0)) if (mount.child.exitCode === null) await mount.stop();
}

describe.each([{ readers: 1 }, { readers: 2 }])('with $readers readers', ({ readers }) => {
  test('many wait at once, and nobody waits whose data is local', { timeout: 60_000 }, async () => {
    const mount = await startWarm({ readers });
    await mount.gate('all', 'held');
    const different = Array.from({ length: MANY }, (_, i) => cat(join(mount.root, `many/file-${i}`)));
    const same = Array.from({ length: 50 }, () => cat(join(mount.root, 'far')));
    await expect.poll(() => mount.waiting('blobs'), PATIENT).toBe(MANY + 1);

    expect(await cat(join(mount.root, 'near')).ended).toMatchObject({ stdout: 'near' });
    expect((await run('ls', ['-l', join(mount.root, 'deep/deeper')])).stdout).toContain('leaf');
    expect([...different, ...same].filter((reader) => reader.done())).toEqual([]);

    await mount.gate('all', 'open');
    const contents = await Promise.all(different.map(async ({ ended }) => (await ended).stdout));
    expect(contents).toEqual(different.map((_, i) => `contents ${i}`));
    for (const { ended } of same) expect(await ended).toMatchObject({ status: 0, stdout: 'far' });
    expect(await mount.asked(digestOf('far'))).toBe(1);
    expect(await mount.asked('blobs read')).toBe(MANY + 1);
    await stopAll();
  });

  test('parts of a large file that wait hold up no other large file', async () => {
    const mount = await startWarm({ readers });
    await mount.gate('blobs', 'held');
    // Such reads, here and there, are the kernel's background requests, of which it sends only so many.
    const part = (name: string, skip: number) =>
      start('dd', `if=${mount.root}/${name}`, 'bs=4k', 'count=1', `skip=${skip}`, 'status=none');
    const waiting = Array.from({ length: 100 }, (_, i) => part('large', 7 * i + 3));
    await expect.poll(async () => (await mount.statistics()).requests.read, PATIENT).toBe(100);
    const { stdout } = await part('large-near', 100).ended;
    expect(stdout === LARGE_NEAR.subarray(409_600, 413_696).toString()).toBe(true);
    await mount.gate('blobs', 'open');
    for (const [i, { ended }] of waiting.entries()) {
      const begin = 4096 * (7 * i + 3);
      expect((await ended).stdout === LARGE.subarray(begin, begin + 4096).toString()).toBe(true);
    }
    await stopAll();
  });

  test('a single process that waits is woken, at every step of its way', async () => {
    const mount = await startMount({ readers });
    await mount.gate('all', 'held');
    const reader = cat(join(mount.root, 'deep/deeper/leaf'));
    const somethingWaits = async () => {
      const { waiting } = await mount.counts();
      return reader.done() || Object.values(waiting).some((calls) => calls > 0);
    };
    for (;;) {
      await expect.poll(somethingWaits, PATIENT).toBe(true);
      if (reader.done()) break;
      await mount.gate('all', 'open');
      await mount.gate('all', 'held');
    }
    // A name, at least three directories, and a blob.
    expect(await mount.asked()).toBeGreaterThanOrEqual(5);
    expect(await reader.ended).toMatchObject({ status: 0, stdout: 'leaf' });
    await stopAll();
  });

  test('an object is asked for once, however many parts of it are read', async () => {
    const mount = await startMount({ readers });
    await mount.gate('blobs', 'held');
    const all = [cat(join(mount.root, 'large')), cat(join(mount.root, 'middle'))];
    for (let i = 0; i < 8; i++) {
      all.push(start('dd', `if=${mount.root}/large`, 'bs=100k', 'count=3', `skip=${3 * i}`, 'status=none'));
    }
    await expect.poll(() => mount.waiting('blobs'), PATIENT).toBeGreaterThan(1);
    await mount.gate('blobs', 'open');
    const [large, middle] = await Promise.all(all.map(({ ended }) => ended));
    // As text, which is how they were read: enough to tell one from another.
    expect(large!.stdout === LARGE.toString()).toBe(true);
    expect(middle!.stdout === MIDDLE.toString()).toBe(true);
    const { asked } = await mount.counts();
    const often = Object.entries(asked).filter(([key, count]) => key.startsWith('blobs') && count > 1);
    expect(often).toEqual([]);
    await stopAll();
  });

  test.each(['SIGKILL', 'SIGINT'] as const)(
    'a reader goes away at %s while others wait on',
    async (signal) => {
      const mount = await startWarm({ readers });
      await mount.gate('blobs', 'held');
      const stays = [cat(join(mount.root, 'far')), cat(join(mount.root, 'many/file-0'))];
      const leaves = [cat(join(mount.root, 'far')), cat(join(mount.root, 'many/file-150'))];
      await expect.poll(() => mount.waiting('blobs'), PATIENT).toBe(3);
      for (const { child } of leaves) child.kill(signal);
      await expect.poll(() => leaves.map((reader) => reader.done()), SOON).toEqual([true, true]);
      for (const { ended } of leaves) expect(await ended).toMatchObject({ signal });
      expect(stays.map((reader) => reader.done())).toEqual([false, false]);
      await mount.gate('blobs', 'open');
      expect((await stays[0]!.ended).stdout).toBe('far');
      expect((await stays[1]!.ended).stdout).toBe('contents 0');
      expect(await cat(join(mount.root, 'many/file-150')).ended).toMatchObject({ stdout: 'contents 150' });
      await stopAll();
    },
  );

  test.each(['SIGKILL', 'SIGINT'] as const)(
    'one that waits for a name goes away at %s, and the service is told',
    async (signal) => {
      const mount = await startMount({ readers });
      await mount.gate('all', 'held');
      const first = start('stat', mount.root);
      await expect.poll(() => mount.waiting('pathInfos'), PATIENT).toBe(1);
      first.child.kill(signal);
      await expect.poll(() => first.done(), SOON).toBe(true);
      // It was the last that waited: the call is given up.
      await expect.poll(() => mount.waiting('pathInfos'), PATIENT).toBe(0);
      const second = start('stat', mount.root);
      await expect.poll(() => mount.waiting('pathInfos'), PATIENT).toBe(1);
      await mount.gate('all', 'open');
      expect(await second.ended).toMatchObject({ status: 0 });
      await stopAll();
    },
  );

  test('a failing service gives EIO, and the next try works when it is well again', async () => {
    const mount = await startMount({ readers });
    const read = () => cat(join(mount.root, 'deep/deeper/leaf')).ended;
    for (const service of ['pathInfos', 'directories', 'blobs'] as const) {
      await mount.gate(service, 'failing');
      expect(await read()).toMatchObject(EIO);
      expect(await read()).toMatchObject(EIO);
      await mount.gate(service, 'open');
      // What is to be had now, and no more.
      if (service === 'pathInfos') expect((await start('stat', mount.root).ended).status).toBe(0);
      if (service === 'directories') expect((await start('ls', `${mount.root}/deep`).ended).status).toBe(0);
    }
    expect(await read()).toMatchObject({ status: 0, stdout: 'leaf' });
    // Those who waited for the same thing fail together.
    await mount.gate('blobs', 'held');
    const all = Array.from({ length: 10 }, () => cat(join(mount.root, 'far')));
    await expect.poll(() => mount.waiting('blobs'), PATIENT).toBe(1);
    await mount.gate('blobs', 'failing');
    for (const { ended } of all) expect(await ended).toMatchObject(EIO);
    await stopAll();
  });

  test('from a service that answers nothing comes EIO when the time is over', async () => {
    const mount = await startWarm({ readers, timeoutMs: 300 });
    await mount.gate('all', 'silent');
    const all = [cat(join(mount.root, 'far')), cat(join(mount.root, 'large')), cat(join(mount.root, 'far'))];
    await expect.poll(() => mount.waiting('blobs'), PATIENT).toBeGreaterThan(1);
    // A deadline that only garbage holds on to would never come.
    for (let i = 0; i < 4; i++) await mount.collectGarbage();
    for (const { ended } of all) expect(await ended).toMatchObject(EIO);
    expect(await cat(join(mount.root, 'near')).ended).toMatchObject({ stdout: 'near' });
    await mount.gate('all', 'open');
    // On a busy machine it may have been waited for long enough to be left alone for a moment.
    await delay(300);
    expect(await cat(join(mount.root, 'far')).ended).toMatchObject({ status: 0, stdout: 'far' });
    await stopAll();
  });

  test('nobody sees a wrong byte, and none is kept', async () => {
    const mount = await startMount({ readers });
    await mount.gate('directories', 'lying');
    expect(await start('ls', mount.root).ended).toMatchObject({ status: 2, stderr: EIO.stderr });
    await mount.gate('directories', 'open');
    await run('ls', ['-lR', mount.root]);
    await mount.gate('blobs', 'lying');
    for (const name of ['far', 'large', 'middle']) {
      expect(await cat(join(mount.root, name)).ended).toMatchObject(EIO);
    }
    await mount.stop();

    const again = await startMount({ readers, cacheDir: mount.cacheDir });
    for (const [name, contents] of [
      ['far', 'far'],
      ['large', LARGE.toString()],
      ['middle', MIDDLE.toString()],
    ] as const) {
      const { status, stdout } = await cat(join(again.root, name)).ended;
      expect([name, status, stdout === contents]).toEqual([name, 0, true]);
    }
    await stopAll();
  });

  test.each(['held', 'silent'] as const)(
    'it ends at once while readers wait for a %s service',
    async (state) => {
      const mount = await startWarm({ readers });
      await mount.gate('all', state);
      const all = [
        cat(join(mount.root, 'far')),
        cat(join(mount.root, 'large')),
        start('stat', `${mount.dir}/${'0'.repeat(32)}-x`),
      ];
      await expect.poll(() => mount.waiting('blobs'), PATIENT).toBeGreaterThan(1);
      await expect.poll(() => mount.waiting('pathInfos'), PATIENT).toBe(1);
      const { status, took } = await mount.stop();
      expect(status).toBe(0);
      expect(took).toBeLessThan(SOON_MS);
      for (const { ended } of all) expect((await ended).status).toBe(1);
      expect(execFileSync('cat', ['/proc/self/mountinfo']).toString()).not.toContain(mount.dir);
    },
  );

  test('it ends when somebody else forces the unmounting while readers wait', async () => {
    const mount = await startWarm({ readers });
    await mount.gate('all', 'held');
    const reader = cat(join(mount.root, 'far'));
    await expect.poll(() => mount.waiting('blobs'), PATIENT).toBe(1);
    const ended = once(mount.child, 'exit');
    await run('umount', ['-f', mount.dir]);
    expect((await reader.ended).status).toBe(1);
    expect(await ended).toEqual([0, null]);
    expect(execFileSync('cat', ['/proc/self/mountinfo']).toString()).not.toContain(mount.dir);
  });

  test('what was read once is asked for never again', async () => {
    const mount = await startMount({ readers });
    const readAll = async (root: string) => {
      const { status } = await start('tar', '-C', root, '-cf', `${mount.cacheDir}.tar`, '.').ended;
      expect(status).toBe(0);
    };
    await readAll(mount.root);
    const asked = await mount.asked();
    expect(asked).toBeGreaterThan(MANY);
    await readAll(mount.root);
    expect(await mount.asked()).toBe(asked);
    await mount.stop();

    const again = await startMount({ readers, cacheDir: mount.cacheDir });
    await readAll(again.root);
    expect(await again.asked()).toBe(0);
    await stopAll();
  });

  test('a store path that the service does not have is not there', async () => {
    const mount = await startMount({ readers });
    const name = `${mount.dir}/${'0'.repeat(32)}-absent`;
    for (let i = 0; i < 2; i++) {
      expect(await start('stat', name).ended).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('No such file'),
      });
    }
    // The right hash with another name is another store path.
    expect((await start('stat', `${mount.root}x`).ended).stderr).toContain('No such file');
    // What is no store path at all is not asked for.
    const asked = await mount.asked();
    expect((await start('stat', `${mount.dir}/.hidden`).ended).stderr).toContain('No such file');
    expect(await mount.asked()).toBe(asked);
    await stopAll();
  });

  test('all who list the root see what the service has', async () => {
    const mount = await startMount({ readers, listRoot: true });
    await mount.gate('pathInfos', 'held');
    const all = Array.from({ length: 5 }, () => start('ls', mount.dir));
    await expect.poll(() => mount.waiting('pathInfos'), PATIENT).toBe(1);
    // One that comes while the others wait.
    all.push(start('ls', mount.dir));
    await mount.gate('pathInfos', 'open');
    const name = mount.root.split('/').pop();
    for (const { ended } of all) expect(await ended).toMatchObject({ status: 0, stdout: `${name}\n` });
    await stopAll();
  });
});

describe.runIf(process.getuid!() === 0)('a cache on a full disk', () => {
  const disk = join(tempDir(), 'disk');

  beforeAll(() => {
    mkdirSync(disk);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk]);
  });

  afterAll(async () => {
    await stopAll();
    execFileSync('umount', ['-l', disk]);
  });

  test('stops no read', async () => {
    const mount = await startMount({ cacheDir: join(disk, 'cache') });
    // Nothing more goes in; `dd` ends with the error that it is there for.
    await run('dd', ['if=/dev/zero', `of=${disk}/filler`, 'bs=4k', 'status=none']);
    for (const [name, contents] of [
      ['near', 'near'],
      ['middle', MIDDLE.toString()],
      ['large', LARGE.toString()],
      ['link', 'far'],
      ['deep/deeper/leaf', 'leaf'],
    ] as const) {
      const { status, stdout, stderr } = await cat(join(mount.root, name)).ended;
      expect([name, status, stdout === contents, stderr]).toEqual([name, 0, true, '']);
    }
    expect(mount.log()).toContain('cannot keep what was fetched');
  });
});
