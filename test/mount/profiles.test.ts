import { mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { GRACE_MS } from '../../src/castore/objects/reliance.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import { startDaemon, startNarBridge } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { localStore } from '../helpers/services.ts';
import { putStorePath, storePathOf } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file } from '../helpers/trees.ts';
import { servedByPython } from '../helpers/web-server.ts';

const MIB = 1 << 20;
const BLOCK = 64 << 10;
const dir = tempDir();
const store = `local://${dir}/store`;
const bucketDir = join(dir, 'bucket');
const bucket = `objectstore+file://${bucketDir}`;
const APP = storePathOf('app');
const app = APP.absolute();
const tree = directory({
  bin: directory({ run: file('program'), other: file('another program') }),
  lib: directory({ deep: directory({ b: file('b'), a: file('a') }), large: file(randomBytes(8 * MIB)) }),
  share: directory({ doc: file('never read') }),
});
/** What `used` does, in this order; `cp -r` of all would be something else. */
const READ = ['lib/deep/b', 'bin/run', 'lib/deep/a'];

beforeAll(async () => {
  const into = localStore(join(dir, 'store'));
  await putStorePath(into, 'app', tree);
  await putStorePath(into, 'other', file('other'));
  await into.close();
  expect(await tvixStore(['copy', '--from', store, '--to', bucket, '--all'])).toMatchObject({ status: 0 });
});

const newCache = () => join(tempDir(), 'cache');

/** Runs `profile` for a far store and a cache. */
const profile = (what: string, far: string, cache: string, ...args: string[]) =>
  tvixStore(['profile', what, '--store', far, '--cache', cache, ...args]);

/** Mounts, and reads something from it. Gives the cache. */
async function used(far: string, cache = newCache(), read = READ): Promise<string> {
  const mounted = await mount(['--store', far, '--cache', cache]);
  for (const name of read) expect((await run('cat', [join(mounted.dir, String(APP), name)])).status).toBe(0);
  await run('dd', [
    `if=${join(mounted.dir, String(APP), 'lib/large')}`,
    'of=/dev/null',
    'bs=64K',
    'skip=80',
    'count=1',
  ]);
  expect((await mounted.stop()).status).toBe(0);
  return cache;
}

describe('a profile', () => {
  test('tells in which order what was needed, and is kept in the cache', async () => {
    const daemon = await startDaemon(store);
    const cache = await used(daemon.url);
    const { status, stdout } = await profile('show', daemon.url, cache, app);
    expect(status).toBe(0);
    const lines = stdout.trim().split('\n');
    expect(lines.filter((line) => !line.endsWith('lib/large'))).toEqual([
      'd lib',
      'd lib/deep',
      'f 0+1 lib/deep/b',
      'd bin',
      'f 0+7 bin/run',
      'f 0+1 lib/deep/a',
    ]);
    // The part that was read, and not much more.
    const [, offset, length] = /^f (\d+)\+(\d+)/.exec(lines.at(-1)!)!.map(Number);
    expect(offset).toBeLessThanOrEqual(80 * BLOCK);
    expect(offset! + length!).toBeGreaterThanOrEqual(81 * BLOCK);
    expect(length).toBeLessThan(4 * MIB);
    // Used again, it is the same, and what is new comes behind it.
    await used(daemon.url, cache, ['bin/other', ...READ]);
    const again = (await profile('show', daemon.url, cache, app)).stdout.trim().split('\n');
    expect(again.slice(0, 6)).toEqual(lines.slice(0, 6));
    expect(again).toContain('f 0+15 bin/other');
    expect(await tvixStore(['fsck', '--store', `local://${cache}`])).toMatchObject({ status: 0 });
    await daemon.stop();
  });

  test('goes to another cache in a file', async () => {
    const daemon = await startDaemon(store);
    const cache = await used(daemon.url);
    const shown = await profile('show', daemon.url, cache, '--json', app);
    const path = join(dir, 'profiles');
    expect(await profile('export', daemon.url, cache, '--to', path, app)).toMatchObject({
      status: 0,
      stdout: `${app}\n`,
    });
    expect(readFileSync(path).length).toBeLessThan(200);
    const other = newCache();
    expect((await profile('show', daemon.url, other, app)).status).toBe(1);
    expect(await profile('import', daemon.url, other, '--from', path)).toMatchObject({ status: 0 });
    expect(await profile('show', daemon.url, other, '--json', app)).toEqual(shown);
    await daemon.stop();
  });

  test('goes to a bucket, is found from there, over plain HTTP, too, and goes with its path', async () => {
    const cache = await used(bucket);
    const shown = await profile('show', bucket, cache, app);
    expect(await profile('export', bucket, cache, '--to', bucket, app)).toMatchObject({ status: 0 });
    const object = join(bucketDir, 'profiles/v1', APP.hashText);
    expect(readFileSync(object)[0]).toBe(1);
    const web = `objectstore+http://${await servedByPython(bucketDir)}`;
    const bridge = await startNarBridge(bucket);
    for (const far of [bucket, web, `objectstore+http://${bridge.at}`])
      expect(await profile('show', far, newCache(), app)).toEqual(shown);
    await bridge.stop();
    const other = newCache();
    expect(await profile('import', bucket, other, '--from', web, app)).toMatchObject({ status: 0 });
    expect(await profile('show', web, other, app)).toEqual(shown);

    expect(await tvixStore(['fsck', '--store', bucket])).toMatchObject({ status: 0 });
    await tvixStore(['root', 'add', '--store', bucket, 'root', app]);
    const gc = () => tvixStore(['gc', '--store', bucket]);
    const longAgo = new Date(Date.now() - 10 * GRACE_MS);
    for (const old of [object, join(bucketDir, 'pathinfo/v1', APP.hashText)])
      utimesSync(old, longAgo, longAgo);
    expect(await gc()).toMatchObject({ status: 0 });
    expect(readFileSync(object)[0]).toBe(1);
    await tvixStore(['root', 'remove', '--store', bucket, 'root']);
    expect(await gc()).toMatchObject({ status: 0 });
    expect(() => readFileSync(object)).toThrow('ENOENT');
  });

  test('that is damaged, of another tree, or not there is none', async () => {
    const lies = join(dir, 'lies');
    await tvixStore(['copy', '--from', store, '--to', `objectstore+file://${lies}`, '--all']);
    mkdirSync(join(lies, 'profiles/v1'), { recursive: true });
    const object = join(lies, 'profiles/v1', APP.hashText);
    for (const bytes of ['nonsense', Buffer.concat([Buffer.of(1), randomBytes(32), Buffer.of(0, 0)])]) {
      writeFileSync(object, bytes);
      const shown = await profile('show', `objectstore+file://${lies}`, newCache(), app);
      expect([shown.status, shown.stderr]).toEqual([1, expect.stringContaining(`no profile of ${app}`)]);
    }
    const daemon = await startDaemon(store);
    const exported = await profile('export', daemon.url, newCache(), '--to', join(dir, 'none'), app);
    expect([exported.status, exported.stdout]).toEqual([1, '']);
    await daemon.stop();
  });

  test.each([
    [['export', '--to', 'grpc+http://127.0.0.1:1', app], 'buckets'],
    [['import', '--from', bucket], 'name the store paths'],
    [['export', app], '--to'],
  ])('%j is wrong usage', async (args, message) => {
    const { status, stderr } = await tvixStore(['profile', ...args, '--store', 'grpc+http://127.0.0.1:1']);
    expect([status, stderr]).toEqual([2, expect.stringContaining(message)]);
  });
});
