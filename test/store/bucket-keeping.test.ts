import { existsSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { FileObjectStore } from '../../src/castore/objects/file.ts';
import { GRACE_MS } from '../../src/castore/objects/reliance.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import { mount } from '../helpers/mount.ts';
import { storeAmong } from '../helpers/objects.ts';
import { randomBytes } from '../helpers/random.ts';
import { rot } from '../helpers/rot.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

/** A bucket of a test's own: they wait for collections at the same time. */
function newBucket() {
  const dir = tempDir();
  const bucket = join(dir, 'bucket');
  const store = ['--store', `objectstore+file://${bucket}`, '--cache', join(dir, 'cache')];

  async function good(...args: string[]): Promise<string> {
    const { status, stdout, stderr } = await tvixStore(args);
    expect({ args, status, stderr }).toMatchObject({ status: 0 });
    return stdout.trim();
  }
  async function importTree(name: string): Promise<string> {
    const contents = { large: file(randomBytes(700_000, name)), small: file(name), both: file('the same') };
    if (!existsSync(join(dir, name))) writeTree(join(dir, name), directory(contents));
    return good('import', ...store, join(dir, name));
  }
  const json = async (...args: string[]) => JSON.parse(await good(...args, ...store, '--json'));
  const listed = async () => (await good('ls', ...store)).split('\n').filter(Boolean).sort();

  /** The files of objects. */
  function objects(under = ''): string[] {
    const names = readdirSync(bucket, { recursive: true, encoding: 'utf8' });
    return names.filter((name) => name.startsWith(under) && statSync(join(bucket, name)).isFile()).sort();
  }
  /** As if everything had been put so long ago. */
  function age(ms: number): void {
    const then = new Date(Date.now() - ms);
    for (const name of objects()) utimesSync(join(bucket, name), then, then);
  }
  async function isWhole(path: string): Promise<void> {
    await good('verify', ...store, path);
    // Not out of what this machine keeps.
    expect(await good('fsck', ...store)).toContain('all is well');
  }
  return { dir, bucket, store, good, importTree, json, listed, objects, age, isWhole };
}

const baseOf = (path: string) => path.slice('/nix/store/'.length);

describe.concurrent('a collection in a bucket', () => {
  test('takes what nothing holds: path infos by their age, contents when nothing refers to them', async () => {
    const { store, good, importTree, json, listed, objects, age, isWhole } = newBucket();
    const [kept, gone] = [await importTree('kept'), await importTree('gone')];
    age(10 * GRACE_MS);
    const young = await importTree('young');
    await good('root', 'add', ...store, 'release/1 ü', kept);
    expect(await good('root', 'list', ...store)).toBe(`release/1 ü\t${kept}`);

    const before = objects();
    const dry = await good('gc', ...store, '--dry-run');
    expect(dry).toMatch(new RegExp(`^kept   ${kept}\\theld by the root release/1 ü$`, 'm'));
    expect(dry).toMatch(new RegExp(`^kept   ${young}\\theld by its upload \\d+ s ago$`, 'm'));
    expect(dry).toMatch(new RegExp(`^freed  ${gone}$`, 'm'));
    expect(objects()).toEqual(before);

    const report = await json('gc');
    expect(report).toMatchObject({ paths: 1, kept: 2, directories: 1, manifests: 1 });
    expect(report.chunks).toBeGreaterThan(1);
    expect(await listed()).toEqual([baseOf(kept), baseOf(young)].sort());
    for (const path of [kept, young]) await isWhole(path);

    await good('root', 'remove', ...store, 'release/1 ü');
    age(10 * GRACE_MS);
    expect(await json('gc')).toMatchObject({ paths: 2, kept: 0 });
    expect(objects().filter((name) => /^(chunks|blobs|dirs|pathinfo|roots)/.test(name))).toEqual([]);
  });

  test('leaves what was put of late, whatever refers to it, unless it is told not to', async () => {
    const { importTree, json, objects, isWhole } = newBucket();
    const path = await importTree('tree');
    expect(await json('gc', '--older-than', '0')).toMatchObject({ paths: 1, chunks: 0 });
    const contents = objects('chunks');
    expect(contents.length).toBeGreaterThan(0);
    // What is there already need not be sent again.
    expect(await importTree('tree')).toBe(path);
    await isWhole(path);
    expect(await json('gc', '--older-than', '0', '--grace', '0')).toMatchObject({ paths: 1, directories: 1 });
    expect(objects('chunks')).toEqual([]);
    expect(await importTree('tree')).toBe(path);
    await isWhole(path);
  });

  test('keeps what a held path refers to', async () => {
    const { bucket, store, good, importTree, json, objects, age, isWhole } = newBucket();
    const [referring, referred] = [await importTree('referring'), await importTree('referred')];
    const services = await storeAmong(await FileObjectStore.open(bucket, true));
    const info = await services.pathInfos.get(StorePath.parseAbsolute(referring).hash);
    await services.pathInfos.put({ ...info!, references: [StorePath.parseAbsolute(referred)] });
    await services.close();
    age(10 * GRACE_MS);
    await good('root', 'add', ...store, 'root', referring);
    expect(await json('gc')).toMatchObject({ paths: 0, kept: 2 });
    await isWhole(referred);
    rm(join(bucket, objects('pathinfo').find((name) => name.endsWith(baseOf(referred).slice(0, 32)))!));
    const found = await tvixStore(['fsck', ...store]);
    expect(found).toMatchObject({ status: 1, stdout: expect.stringContaining(`missing: ${referred}\t`) });
  });

  test('is not begun beside another, and one that was killed is over after a while', async () => {
    const { bucket, store, good, importTree } = newBucket();
    await importTree('tree');
    const state = { id: 'x', until: Date.now() + 60_000, graceMs: GRACE_MS };
    const path = join(bucket, 'gc/state');
    await good('gc', ...store);
    writeFileSync(join(bucket, 'state'), JSON.stringify(state));
    rmSync(path);
    writeFileSync(path, JSON.stringify(state));
    const refused = await tvixStore(['gc', ...store]);
    expect(refused).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('another collection is under way'),
    });
    rmSync(path);
    writeFileSync(path, JSON.stringify({ ...state, until: Date.now() - 1_000_000 }));
    await good('gc', ...store);
  });

  test('makes an upload fail that relies on what it may take; done again, it succeeds', async () => {
    const { dir, bucket, store, importTree, json, listed, objects, age, isWhole } = newBucket();
    const path = await importTree('tree');
    await json('gc', '--older-than', '0');
    // What is old, and referred to by nothing, may go at any moment.
    age(GRACE_MS / 2 + 60_000);
    const state = { id: 'x', until: Date.now() + 600_000, graceMs: GRACE_MS };
    rmSync(join(bucket, 'gc/state'));
    writeFileSync(join(bucket, 'gc/state'), JSON.stringify(state));
    const refused = await tvixStore(['import', ...store, join(dir, 'tree')]);
    expect(refused).toMatchObject({ status: 1, stdout: '' });
    expect(refused.stderr).toContain('try again when it has ended');
    expect(await listed()).toEqual([]);
    rmSync(join(bucket, 'gc/state'));
    expect(await importTree('tree')).toBe(path);
    // It was put again, so that the next one leaves it alone.
    for (const name of objects('chunks'))
      expect(Date.now() - statSync(join(bucket, name)).mtimeMs).toBeLessThan(GRACE_MS / 2);
    await isWhole(path);
  });

  test('with no grace, beside uploads: each of them fails cleanly, or is whole', async () => {
    const { dir, store, good, isWhole } = newBucket();
    const names = ['a', 'b', 'c', 'd'];
    for (const name of names) writeTree(join(dir, name), directory({ f: file(randomBytes(400_000, name)) }));
    await good('import', ...store, join(dir, names[0]!));
    const collecting = tvixStore(['gc', ...store, '--older-than', '1s', '--grace', '0']);
    let done = false;
    void collecting.then(() => {
      done = true;
    });
    let refused = 0;
    for (let i = 0; !done; i++) {
      const { status, stderr } = await tvixStore(['import', ...store, join(dir, names[i % names.length]!)]);
      if (status === 0) continue;
      refused++;
      expect(stderr).toContain('try again when it has ended');
    }
    const collected = await collecting;
    expect(collected.status, collected.stderr).toBe(0);
    expect(refused).toBeGreaterThan(0);
    expect(await good('fsck', ...store)).toContain('all is well');
    for (const name of names) await isWhole(await good('import', ...store, join(dir, name)));
  });
});

describe.concurrent('fsck of a bucket', () => {
  test('finds what is missing and damaged, and gets it from another store', async () => {
    const { dir, bucket, store, good, importTree, objects, isWhole } = newBucket();
    const path = await importTree('tree');
    const local = `local://${dir}/local`;
    await good('import', '--store', local, join(dir, 'tree'));
    const chunks = objects('chunks').sort(
      (a, b) => statSync(join(bucket, b)).size - statSync(join(bucket, a)).size,
    );
    rot(join(bucket, chunks[0]!));
    rmSync(join(bucket, chunks[1]!));
    const found = await tvixStore(['fsck', ...store]);
    expect(found).toMatchObject({ status: 1 });
    expect(found.stdout).toContain(`chunks ${chunks[0]}: it is not what its digest says`);
    expect(found.stdout).toMatch(new RegExp(`^damaged: ${path}\\t.*it is missing`, 'm'));
    expect(await tvixStore(['fsck', ...store, '--repair', '--from', local])).toMatchObject({ status: 0 });
    await isWhole(path);
    await good('realise', ...store, path, tempDir());
  });

  test('takes out of service what cannot be had from elsewhere, so that it can be imported again', async () => {
    const { dir, bucket, store, importTree, listed, objects, isWhole } = newBucket();
    const path = await importTree('tree');
    rmSync(join(bucket, objects('dirs')[0]!));
    rm(join(dir, 'cache'));
    const repaired = await tvixStore(['fsck', ...store, '--repair']);
    expect(repaired).toMatchObject({ status: 1 });
    expect(await listed()).toEqual([]);
    expect(await importTree('tree')).toBe(path);
    await isWhole(path);
  });

  test('finds a damaged outboard, and repair takes it away: the file can be read with and without it', async () => {
    const { dir, bucket, store, good, objects, isWhole } = newBucket();
    const file = join(dir, 'large');
    // Of one chunk, as nothing in it is a place to cut, and of several.
    for (const contents of [Buffer.alloc(500_000), randomBytes(3_000_000)]) {
      writeFileSync(file, contents);
      const path = (await good('import', ...store, '--outboards', file)).trim();
      expect(await good('fsck', ...store)).toContain('all is well');
      const [key] = objects('bao');
      rot(join(bucket, key!));
      const found = await tvixStore(['fsck', ...store]);
      expect(found).toMatchObject({ status: 1 });
      expect(found.stdout).toMatch(new RegExp(`bao ${key}: the outboard of blob .* is damaged`));
      const mounted = await mount([...store, '--cache', tempDir()]);
      expect(await run('cmp', [join(mounted.dir, path.slice('/nix/store/'.length)), file])).toMatchObject({
        status: 0,
      });
      await mounted.stop();
      await tvixStore(['fsck', ...store, '--repair']);
      expect(objects('bao')).toEqual([]);
      await isWhole(path);
    }
  });

  test('tells of a path info that is damaged, and repair removes it', async () => {
    const { bucket, store, importTree, objects, isWhole } = newBucket();
    const path = await importTree('tree');
    const [key] = objects('pathinfo');
    rm(join(bucket, key!));
    writeFileSync(join(bucket, key!), 'nonsense');
    const found = await tvixStore(['fsck', ...store]);
    expect(found).toMatchObject({
      status: 1,
      stdout: expect.stringContaining(`pathinfo ${key}: it is damaged`),
    });
    await tvixStore(['fsck', ...store, '--repair']);
    expect(await importTree('tree')).toBe(path);
    await isWhole(path);
  });
});

function rm(path: string): void {
  rmSync(path, { recursive: true, force: true });
}

test.concurrent('stats of a bucket count what is in it', async () => {
  const { store, good, importTree, json } = newBucket();
  await importTree('one');
  const before = await json('stats');
  expect(before).toMatchObject({ paths: 1, directories: 1, blobs: 1, unreferenced: { objects: 0, size: 0 } });
  expect(before.apparentSize).toBeGreaterThan(700_000);
  expect(before.chunks).toBeGreaterThan(3);
  await json('gc', '--older-than', '0');
  const { paths, unreferenced } = await json('stats');
  expect([paths, unreferenced.objects]).toEqual([0, before.chunks + 2]);
  expect(await good('stats', ...store)).toContain('store paths:   0');
});

test.concurrent('roots of a bucket have names and ends, and only of what is there', async () => {
  const { bucket, store, good, importTree, objects } = newBucket();
  const path = await importTree('tree');
  await good('root', 'add', ...store, '--ttl', '7d', 'ci', path);
  const [root] = (await good('root', 'list', ...store, '--json')).split('\n').map((line) => JSON.parse(line));
  expect(root).toEqual({ name: 'ci', path, expires: expect.stringMatching(/^\d{4}-/) });
  const absent = '/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-absent';
  expect(await tvixStore(['root', 'add', ...store, 'x', absent])).toMatchObject({ status: 1 });
  expect(await tvixStore(['root', 'remove', ...store, 'x'])).toMatchObject({ status: 1 });
  expect(readFileSync(join(bucket, objects('roots')[0]!), 'utf8')).toContain(path);
});
