import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LocalStore } from '../../src/castore/local/store.ts';
import { encodeBase32 } from '../../src/nix/base32.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import { checkStore, repairStore } from '../../src/store/keeping/fsck.ts';
import { collectGarbage } from '../../src/store/keeping/gc.ts';
import { RootTable } from '../../src/store/keeping/roots.ts';
import { importStorePath } from '../../src/store/moving/import.ts';
import { localBackend } from '../../src/store/open/backends/local.ts';
import { parseSideFileName } from '../../src/store/side-files/name.ts';
import { SideFiles } from '../../src/store/side-files/side-files.ts';
import { UploadTables } from '../../src/store/upload/tables.ts';
import { collect } from '../../src/util/bytes.ts';
import { randomBytes } from '../helpers/random.ts';
import { chunkFiles, rot } from '../helpers/rot.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

/** Works in a store, in a process that ends then. */
async function within<T>(
  dir: string,
  work: (store: ReturnType<typeof localBackend>, files: SideFiles) => Promise<T>,
) {
  const store = localBackend(LocalStore.open(dir, 'store'));
  try {
    return await work(store, new SideFiles(store, store.local));
  } finally {
    await store.close();
  }
}

const bytes = async function* (contents: string | Uint8Array) {
  yield Buffer.from(contents);
};

const LOG = randomBytes(300_000, 'log');
const FILE_SHA256 = randomBytes(32, 'a compressed file');

/** A path with all that goes with it; gives the names of that. */
async function given(dir: string, name: string): Promise<string[]> {
  writeTree(join(dir, name), directory({ file: file(`contents of ${name}`) }));
  return within(join(dir, 'store'), async (store, files) => {
    const imported = await importStorePath(store, Buffer.from(join(dir, name)), name);
    const deriver = StorePath.of(randomBytes(20, name), name);
    await store.pathInfos.put({ ...imported, deriver });
    new RootTable(store.local.env).add(name, imported.storePath);
    const sha256 = name === 'kept' ? FILE_SHA256 : imported.narSha256;
    await new UploadTables(store.local).putFile(FILE_SHA256, {
      compression: 'xz',
      narSha256: imported.narSha256,
      crc32: 0,
    });
    const contents: Record<string, string | Uint8Array> = {
      [`log/${deriver}.drv`]: name === 'kept' ? LOG : 'a small log',
      [`realisations/sha256:${Buffer.from(name).toString('hex').padEnd(64, '0')}!out.doi`]: JSON.stringify({
        outPath: String(imported.storePath),
      }),
      [`build-trace-v2/${deriver}.drv/out.doi`]: JSON.stringify({ outPath: String(imported.storePath) }),
      [`debuginfo/${Buffer.from(name).toString('hex')}.debug`]: JSON.stringify({
        archive: `../nar/${encodeBase32(sha256)}.nar.xz`,
      }),
    };
    for (const [file, body] of Object.entries(contents))
      await files.put(parseSideFileName(file)!, bytes(body));
    return Object.keys(contents);
  });
}

/** Which of these are there, and can be read. */
async function present(dir: string, names: readonly string[]): Promise<string[]> {
  return within(join(dir, 'store'), async (_, files) => {
    const found: string[] = [];
    for (const name of names) {
      const contents = await files.get(parseSideFileName(name)!);
      if (
        contents &&
        (await collect(contents.read(0, contents.size, undefined), 1 << 20))?.length === contents.size
      )
        found.push(name);
    }
    return found;
  });
}

test('what goes with a store path stays as long as it does, and is collected with it', async () => {
  const dir = tempDir();
  const gone = await given(dir, 'gone');
  const kept = await given(dir, 'kept');
  const gc = () =>
    within(join(dir, 'store'), ({ local }) => collectGarbage(local, { olderThan: 0, dryRun: false }));
  await gc();
  expect(await present(dir, [...kept, ...gone])).toEqual([...kept, ...gone]);
  await within(join(dir, 'store'), async ({ local }) => new RootTable(local.env).remove('gone'));
  expect(await gc()).toMatchObject({ paths: 1, kept: 1 });
  expect(await present(dir, [...kept, ...gone])).toEqual(kept);
  await within(join(dir, 'store'), async ({ local }) => new RootTable(local.env).remove('kept'));
  await gc();
  // Nothing is left, neither of the rows nor of the contents.
  const left = await within(join(dir, 'store'), async ({ local: { env } }) => [
    env.table('side-file').count,
    env.chunks.count,
    env.manifests.count,
  ]);
  expect(left).toEqual([0, 0, 0]);
});

test('what was put before the path that it goes with stays while that is awaited', async () => {
  const dir = tempDir();
  const name = parseSideFileName(`log/${'0'.repeat(32)}-a.drv`)!;
  await within(join(dir, 'store'), async ({ local }, files) => {
    await files.put(name, bytes('early'));
    await within(join(dir, 'store'), (other) => collectGarbage(other.local, { olderThan: 0, dryRun: false }));
    expect(await files.get(name)).toBeDefined();
    local.env.refresh();
  });
  await within(join(dir, 'store'), ({ local }) => collectGarbage(local, { olderThan: 0, dryRun: false }));
  expect(await present(dir, [name.text])).toEqual([]);
});

test('a check finds a log that has rotted, and a repair takes it out', async () => {
  const dir = tempDir();
  const names = await given(dir, 'kept');
  rot(chunkFiles(join(dir, 'store'))[0]!);
  const { damages, paths } = await checkStore(join(dir, 'store'));
  expect(damages.map(({ table }) => table).sort()).toEqual(['chunk', 'side-file']);
  expect(paths).toEqual([]);
  await repairStore(join(dir, 'store'));
  expect(await present(dir, names)).toEqual(names.slice(1));
  expect((await checkStore(join(dir, 'store'))).damages).toEqual([]);
});
