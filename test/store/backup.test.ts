import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFailed, test } from 'vitest';
import { StorePath } from '../../src/nix/store-path.ts';
import { startTvixStore, tvixStore } from '../helpers/cli.ts';
import { randomBytes, randomNumbers, SEED } from '../helpers/random.ts';
import { chunkFiles, rot } from '../helpers/rot.ts';
import { localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

let dir: string;
let store: string;
let backup: string;

beforeEach(() => {
  dir = tempDir();
  store = `local://${dir}/store`;
  backup = join(dir, 'backup');
});

async function good(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await tvixStore(args);
  expect({ args, status, stderr }).toMatchObject({ status: 0 });
  return stdout.trim();
}

async function importTree(name: string, at = store): Promise<string> {
  const contents = { large: file(randomBytes(700_000, name)), small: file(name), both: file('the same') };
  if (!existsSync(join(dir, name))) writeTree(join(dir, name), directory(contents));
  return good('import', '--store', at, join(dir, name));
}

const listOf = async (at: string) => (await good('ls', '--store', at, '--sort', 'name')).split('\n');
const json = async (...args: string[]) => JSON.parse(await good(...args, '--json'));

describe.each(['a directory', 'a file'])('in %s', (kind) => {
  beforeEach(() => {
    if (kind === 'a file') backup = join(dir, 'store.backup');
  });

  test('a backup has all store paths and roots, and a restore gives them back', async () => {
    const paths = [await importTree('one'), await importTree('two')];
    await good('root', 'add', '--store', store, 'release', paths[0]!);
    await good('root', 'add', '--store', store, '--ttl', '7d', 'ci', paths[1]!);
    expect(await json('backup', '--store', store, '--to', backup)).toMatchObject({
      copied: 2,
      present: 0,
      roots: 2,
    });

    // In use, and only what has come since.
    const daemon = await startTvixStore(['daemon', '-l', join(dir, 'socket'), '--store', store], 'listening');
    paths.push(await importTree('three', `grpc+unix://${join(dir, 'socket')}`));
    expect(await json('backup', '--store', store, '--to', backup)).toMatchObject({ copied: 1, present: 2 });
    daemon.kill();

    const restored = `local://${dir}/restored`;
    expect(await good('restore', '--store', restored, '--from', backup)).toBe(
      'restored 3 store paths, 0 were there; 2 roots',
    );
    expect(await listOf(restored)).toEqual(await listOf(store));
    const roots = await good('root', 'list', '--store', restored);
    expect(roots).toContain(`release\t${paths[0]}\n`.trimEnd());
    expect(roots).toMatch(/^ci\t.*\tuntil /m);
    await good('verify', '--store', restored, '--all');
    await good('fsck', '--store', restored);
  });

  test('signatures that came later are in the next backup, and none is lost by a restore', async () => {
    const path = await importTree('signed');
    await good('backup', '--store', store, '--to', backup);
    for (const name of ['one', 'two'])
      await good('key', 'generate', '--file', join(dir, `${name}.key`), `${name}-1`);
    await good('sign', '--store', store, '--key-file', join(dir, 'one.key'), path);
    expect(await json('backup', '--store', store, '--to', backup)).toMatchObject({ copied: 1, present: 0 });
    const other = `local://${dir}/other`;
    await importTree('signed', other);
    await good('sign', '--store', other, '--key-file', join(dir, 'two.key'), path);
    await good('restore', '--store', other, '--from', backup);
    const info = await json('path-info', '--store', other, path);
    const { signatures } = info[path];
    const names = signatures.map((text: string) => text.split(':')[0]).sort();
    expect(names).toEqual(['one-1', 'one-1.castore', 'two-1', 'two-1.castore']);
  });
});

test('what is damaged is named, and keeps nothing else from being copied', async () => {
  await importTree('bad');
  rot(chunkFiles(join(dir, 'store'))[0]!);
  await importTree('good');
  const made = await tvixStore(['backup', '--store', store, '--to', backup]);
  expect(made).toMatchObject({ status: 1 });
  expect(made.stdout).toMatch(/^damaged: \/nix\/store\/\w{32}-bad\t.* damaged/);
  expect(made.stdout).toContain(
    'copied 1 store paths, 0 were there; 0 roots; 1 are damaged and were left out',
  );
  expect(await listOf(`local://${backup}`)).toEqual([expect.stringMatching(/-good$/)]);
  await good('fsck', '--store', `local://${backup}`);
  // It is mended by being imported again; then the backup has it too.
  await importTree('bad');
  expect(await json('backup', '--store', store, '--to', backup)).toMatchObject({ copied: 1, present: 1 });
});

test('a file grows by what has come, says nothing twice, and is cut where a kill has left it', async () => {
  const path = join(dir, 'store.backup');
  const size = () => statSync(path).size;
  await importTree('one');
  await good('backup', '--store', store, '--to', path);
  const first = size();
  await good('backup', '--store', store, '--to', path);
  expect(size() - first).toBeLessThan(500);
  const second = size();
  await importTree('two');
  await good('backup', '--store', store, '--to', path);
  const third = size();
  expect(third - second).toBeGreaterThan(700_000);
  // As if it had been killed.
  truncateSync(path, third - 1000);
  const restored = await tvixStore(['restore', '--store', `local://${dir}/restored`, '--from', path]);
  expect(restored).toMatchObject({ status: 1 });
  expect(restored.stdout).toMatch(
    /^damaged: .*store\.backup\tthe \d+ bytes from \d+ on are damaged, or were cut$/m,
  );
  expect(await listOf(`local://${dir}/restored`)).toEqual([expect.stringMatching(/-one$/)]);
  await good('fsck', '--store', `local://${dir}/restored`);
  // The next one goes on behind what is whole.
  await good('backup', '--store', store, '--to', path);
  expect(Math.abs(size() - third)).toBeLessThan(500);
  await good('restore', '--store', `local://${dir}/restored`, '--from', path);
  expect(await listOf(`local://${dir}/restored`)).toEqual(await listOf(store));
  expect(statSync(path).mode & 0o077).toBe(0);
});

test('of a file with flipped bits everything is restored that is whole, and the rest is named', async () => {
  const path = join(dir, 'store.backup');
  for (const name of ['a', 'b', 'c', 'd']) await importTree(name);
  await good('backup', '--store', store, '--to', path);
  const random = randomNumbers(SEED);
  onTestFailed(() => console.error(`to repeat this: TEST_SEED=${SEED}`));
  for (let i = 0; i < 6; i++) {
    const bytes = readFileSync(path);
    const at = Math.floor(random() * bytes.length);
    bytes[at]! ^= 1 << Math.floor(random() * 8);
    const bad = join(dir, `bad-${i}.backup`);
    writeFileSync(bad, bytes);
    const restored = `local://${dir}/restored-${i}`;
    const { status, stdout, stderr } = await tvixStore(['restore', '--store', restored, '--from', bad]);
    // The first line says what the file is.
    if (status === 2) {
      expect(stderr).toContain('is not a backup');
      continue;
    }
    expect([status, stdout]).toEqual([1, expect.stringContaining('damaged: ')]);
    await good('fsck', '--store', restored);
    expect(await tvixStore(['verify', '--store', restored, '--all'])).toMatchObject({ status: 0 });
    for (const line of (await listOf(restored)).filter(Boolean)) expect(await listOf(store)).toContain(line);
  }
}, 180_000);

test('a root that means another store path by now stays as it is when a backup is restored', async () => {
  const [old, today] = [await importTree('old'), await importTree('today')];
  await good('root', 'add', '--store', store, 'release', old);
  await good('backup', '--store', store, '--to', backup);
  await good('root', 'add', '--store', store, 'release', today);
  const restored = await good('restore', '--store', store, '--from', backup);
  expect(restored).toContain('root release: it means another store path there, and still does');
  expect(await good('root', 'list', '--store', store)).toBe(`release\t${today}`);
});

test('a damaged root, or a damaged path info in the backup, keeps nothing from being backed up', async () => {
  const path = await importTree('one');
  await good('root', 'add', '--store', store, 'release', path);
  await good('root', 'add', '--store', store, 'sound', path);
  await good('backup', '--store', store, '--to', backup);
  const spoil = async (at: string, table: string) => {
    const local = localStore(at);
    const rows = local.local.env.table(table);
    const [row] = [...rows.rows({ limit: 1 })];
    row!.value[row!.value.length - 1]! ^= 1;
    local.local.env.transaction(() => rows.putSync(row!.key, row!.value));
    await local.close();
  };
  await spoil(join(dir, 'store'), 'root');
  await spoil(backup, 'pathinfo');
  const again = await tvixStore(['backup', '--store', store, '--to', backup]);
  expect(again).toMatchObject({ status: 1 });
  expect(again.stdout).toContain('damaged: root release\t');
  expect(again.stdout).toContain('copied 1 store paths');
  await good('verify', '--store', `local://${backup}`, '--all');
});

test('a backup that has lost something gets it again', async () => {
  await importTree('one');
  await good('backup', '--store', store, '--to', backup);
  rmSync(chunkFiles(backup)[0]!);
  expect(await json('backup', '--store', store, '--to', backup)).toMatchObject({ copied: 1, present: 0 });
  await good('fsck', '--store', `local://${backup}`);
});

test.each(['the database first', 'the chunks first'])(
  'a copy of the files of a store in use, %s, is restored',
  async (order) => {
    await importTree('before');
    const copyDatabase = () => {
      mkdirSync(backup, { recursive: true });
      cpSync(join(dir, 'store/store.lmdb'), join(backup, 'store.lmdb'));
    };
    const copyChunks = () => cpSync(join(dir, 'store/chunks'), join(backup, 'chunks'), { recursive: true });
    const [first, second] =
      order === 'the database first' ? [copyDatabase, copyChunks] : [copyChunks, copyDatabase];
    first();
    await importTree('between');
    second();
    const restored = await tvixStore(['restore', '--store', `local://${dir}/restored`, '--from', backup]);
    const list = await listOf(`local://${dir}/restored`);
    if (order === 'the database first') {
      expect(restored).toMatchObject({ status: 0 });
      expect(list).toEqual([expect.stringMatching(/-before$/)]);
    } else {
      expect(restored).toMatchObject({ status: 1 });
      expect(restored.stdout).toMatch(/^damaged: \/nix\/store\/\w{32}-between\t.* is missing/);
      expect(list).toEqual([expect.stringMatching(/-before$/)]);
    }
    await good('fsck', '--store', `local://${dir}/restored`);
  },
);

test('what others refer to and nobody has is named by a restore', async () => {
  const [path, other] = [await importTree('referring'), await importTree('referred')];
  const local = localStore(join(dir, 'store'));
  const info = await local.pathInfos.get(StorePath.parseAbsolute(path).hash);
  await local.pathInfos.put({ ...info!, references: [StorePath.parseAbsolute(other)] });
  const infos = local.local.env.table('pathinfo');
  local.local.env.transaction(() => infos.removeSync(StorePath.parseAbsolute(other).hash));
  await local.close();
  // All that the store has is in the backup.
  await good('backup', '--store', store, '--to', backup);
  const restored = await tvixStore(['restore', '--store', `local://${dir}/restored`, '--from', backup]);
  expect(restored).toMatchObject({ status: 1 });
  expect(restored.stdout).toContain(`missing: ${other}\t${path} refers to it\nrestored 1 store paths`);
});

test('a directory with something else in it is no place for a backup, nor is the store itself', async () => {
  await importTree('one');
  mkdirSync(join(dir, 'photos'));
  writeFileSync(join(dir, 'photos/cat.jpg'), 'cat');
  for (const to of [
    '',
    `objectstore+file://${dir}/bucket`,
    '/dev/null',
    join(dir, 'photos'),
    join(dir, 'photos/cat.jpg'),
    join(dir, 'store'),
    `local://${dir}/store`,
  ]) {
    expect(await tvixStore(['backup', '--store', store, '--to', to])).toMatchObject({
      status: 2,
      stdout: '',
    });
  }
  const photos = ['--store', `local://${dir}/photos`, '--from', join(dir, 'store')];
  expect(await tvixStore(['restore', ...photos])).toMatchObject({ status: 2, stdout: '' });
  expect(readdirSync(join(dir, 'photos'))).toEqual(['cat.jpg']);
  // Where nothing can be made, that is said.
  expect(await tvixStore(['backup', '--store', store, '--to', '/proc/nothing'])).toMatchObject({ status: 1 });
  for (const to of [store, `local://${dir}/./store`])
    expect(await tvixStore(['copy', '--store', store, '--all', '--to', to])).toMatchObject({
      status: 2,
      stdout: '',
    });
  expect(await tvixStore(['restore', '--store', store, '--from', join(dir, 'nowhere')])).toMatchObject({
    status: 1,
  });
  expect(await tvixStore(['backup', '--store', store])).toMatchObject({ status: 2 });
});

test('copy --all --roots copies roots between local stores, and only between those', async () => {
  const path = await importTree('one');
  await good('root', 'add', '--store', store, 'release', path);
  const to = `local://${dir}/other`;
  expect(await json('copy', '--store', store, '--all', '--roots', '--to', to)).toMatchObject({ roots: 1 });
  expect(await good('root', 'list', '--store', to)).toBe(`release\t${path}`);
  // Those of other store paths stay behind.
  const second = await importTree('two');
  await good('root', 'add', '--store', store, 'second', second);
  expect(await json('copy', '--store', store, '--roots', '--to', to, path)).toMatchObject({ roots: 1 });
  expect(await good('root', 'list', '--store', to)).toBe(`release\t${path}`);
  const bucket = `objectstore+file://${dir}/bucket`;
  const refused = await tvixStore(['copy', '--store', store, '--all', '--roots', '--to', bucket]);
  expect(refused).toMatchObject({ status: 2, stdout: '', stderr: expect.stringContaining('--roots') });
});
