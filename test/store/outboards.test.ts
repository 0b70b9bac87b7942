import { readdirSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { OutboardReader } from '../../src/castore/bao/reader.ts';
import { outboardLength } from '../../src/castore/bao/shape.ts';
import type { Outboard } from '../../src/castore/blob/service.ts';
import { Digest } from '../../src/castore/digest.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import { GRACE_MS } from '../../src/castore/objects/reliance.ts';
import { localBackend } from '../../src/store/open/backends/local.ts';
import { tvixStore } from '../helpers/cli.ts';
import { randomBytes } from '../helpers/random.ts';
import { chunkFiles, rot } from '../helpers/rot.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

/** So large that an outboard is a file of its own. */
const SIZE = 20 << 20;
const contents = randomBytes(SIZE, 'large');
const blob = { digest: Digest.hash(contents), size: SIZE };

let dir: string;
beforeEach(() => {
  dir = tempDir();
  writeTree(join(dir, 'tree'), directory({ large: file(contents), small: file('small') }));
});

async function good(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await tvixStore(args);
  expect({ args, status, stderr }).toMatchObject({ status: 0 });
  return stdout.trim();
}

async function prove(outboard: Outboard | undefined): Promise<void> {
  expect(outboard?.length).toBe(outboardLength(SIZE));
  await new OutboardReader(blob, outboard!).prove(0, contents);
}

describe('in a local store', () => {
  let opened: LocalStore | undefined;
  afterEach(close);

  const at = () => ['--store', `local://${dir}/store`];
  const importTree = (...flags: string[]) => good('import', ...at(), ...flags, join(dir, 'tree'));
  const files = () => chunkFiles(join(dir, 'store'));
  function outboard(make: boolean): Promise<Outboard | undefined> {
    opened ??= LocalStore.open(join(dir, 'store'), 'store');
    return localBackend(opened).blobs.outboard!(blob.digest, { make });
  }
  async function close(): Promise<void> {
    await opened?.close();
    opened = undefined;
  }

  test('an outboard is made when it is first asked for, and kept', async () => {
    await importTree();
    const before = files();
    expect(await outboard(false)).toBeUndefined();
    await prove(await outboard(true));
    expect(files().length).toBe(before.length + 1);
    await close();
    await prove(await outboard(false));
  });

  test('one that is damaged is noticed, and made anew', async () => {
    await importTree();
    const before = files();
    await prove(await outboard(true));
    await close();
    rot(files().find((path) => !before.includes(path))!);
    expect(await outboard(false)).toBeUndefined();
    await prove(await outboard(true));
    await close();
    await prove(await outboard(false));
  });

  test('import --outboards makes it, it stays as long as its blob, and goes with it', async () => {
    const path = await importTree('--outboards');
    const before = files();
    const gc = () => good('gc', ...at(), '--older-than', '0');
    await good('root', 'add', ...at(), 'kept', path);
    await gc();
    expect(files()).toEqual(before);
    await prove(await outboard(false));
    await close();
    expect(JSON.parse(await good('stats', ...at(), '--json')).unreferenced.objects).toBe(0);
    expect(await good('fsck', ...at())).toContain('all is well');

    await good('root', 'remove', ...at(), 'kept');
    await gc();
    expect(files()).toEqual([]);
    expect(await outboard(true)).toBeUndefined();
  });
});

test('in a bucket, import --outboards makes it, it stays as long as its blob, and goes with it', async () => {
  const bucket = join(dir, 'bucket');
  const at = ['--store', `objectstore+file://${bucket}`, '--cache', join(dir, 'cache')];
  const { hex } = blob.digest;
  const key = join('bao/b3', hex.slice(0, 4), hex);
  const objects = () =>
    readdirSync(bucket, { recursive: true, encoding: 'utf8' }).filter((name) =>
      statSync(join(bucket, name)).isFile(),
    );
  const collect = async () => {
    // As if everything had been put so long ago.
    const then = new Date(Date.now() - 10 * GRACE_MS);
    for (const name of objects()) utimesSync(join(bucket, name), then, then);
    await good('gc', ...at, '--older-than', '0');
  };
  const path = await good('import', ...at, '--outboards', join(dir, 'tree'));
  expect(statSync(join(bucket, key)).size).toBe(outboardLength(SIZE));
  await good('root', 'add', ...at, 'kept', path);
  await collect();
  expect(objects()).toContain(key);
  expect(await good('fsck', ...at)).toContain('all is well');
  await good('root', 'remove', ...at, 'kept');
  await collect();
  expect(objects().filter((name) => /^(bao|blobs|chunks)\//.test(name))).toEqual([]);
});
