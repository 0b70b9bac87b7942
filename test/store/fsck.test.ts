import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFailed, test } from 'vitest';
import { LocalStore } from '../../src/castore/local/store.ts';
import type { TableRow } from '../../src/castore/local/table.ts';
import type { CheckReport } from '../../src/store/keeping/check/report.ts';
import { checkStore, repairStore } from '../../src/store/keeping/fsck.ts';
import { RootTable } from '../../src/store/keeping/roots.ts';
import { importStorePath } from '../../src/store/moving/import.ts';
import { localBackend } from '../../src/store/open/backends/local.ts';
import { startTvixStore, tvixStore } from '../helpers/cli.ts';
import { randomBytes, randomNumbers, SEED } from '../helpers/random.ts';
import { chunkFiles } from '../helpers/rot.ts';
import { checkLocalStore, codeOf, localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import type { Tree } from '../helpers/trees.ts';
import { directory, file, generateTree, symlink, writeTree } from '../helpers/trees.ts';

/** Random flips of one bit each. More with FLIPS. */
const FLIPS = Number(process.env.FLIPS ?? 8);

const dir = tempDir();
const golden = join(dir, 'golden');
let paths: string[];

beforeAll(async () => {
  const trees: Record<string, Tree> = {
    large: directory({ big: file(randomBytes(600_000, 'big')), same: file(randomBytes(90_000, 'same')) }),
    small: directory({ same: file(randomBytes(90_000, 'same')), link: symlink('x'), text: file('text') }),
    tree: generateTree(100, 1),
  };
  const store = localStore(golden);
  for (const [name, tree] of Object.entries(trees)) {
    writeTree(join(dir, name), tree);
    const info = await importStorePath(store, Buffer.from(join(dir, name)), name);
    new RootTable(store.local.env).add(`root of ${name}`, info.storePath);
  }
  await store.close();
  paths = await checkLocalStore(golden);
});

let copies = 0;
/** A copy of the sound store. */
function copy(): string {
  const target = join(dir, `copy-${copies++}`);
  cpSync(golden, target, { recursive: true });
  return target;
}

function isSound({ structure, damages, paths: damaged, hidden, missing }: CheckReport): boolean {
  return structure.length + damages.length + damaged.length + hidden.length + missing.length === 0;
}

function nameOf(path: string): string {
  return path.slice(path.indexOf('-') + 1);
}

function flip(path: string, at: number, bit = 0): void {
  const bytes = readFileSync(path);
  bytes[at]! ^= 1 << bit;
  chmodSync(path, 0o644);
  writeFileSync(path, bytes);
}

/** Changes a byte in the first row of a table. */
async function damageRow(store: string, table: string): Promise<void> {
  const local = LocalStore.open(store);
  const rows = local.env.table(table);
  const [{ key, value }] = [...rows.rows({ limit: 1 })] as [TableRow];
  const damaged = Buffer.from(value);
  damaged[damaged.length - 1]! ^= 4;
  await rows.put(key, damaged);
  await local.env.flushed();
  await local.close();
}

async function withGolden<T>(work: (from: ReturnType<typeof localBackend>) => Promise<T>): Promise<T> {
  const from = localBackend(LocalStore.open(golden));
  try {
    return await work(from);
  } finally {
    await from.close();
  }
}

describe('a check', () => {
  test('finds nothing wrong with a sound store, and counts what it read', async () => {
    const report = await checkStore(golden);
    expect(isSound(report)).toBe(true);
    expect(report.objects).toBeGreaterThan(100);
    expect(report.bytes).toBeGreaterThan(700_000);
  });

  test('names a chunk file that is not what it should be, and all store paths that need it', async () => {
    const store = copy();
    const same = chunkFiles(store).find((name) => statSync(name).size === 90_000)!;
    flip(same, 50_000);
    const { damages, paths: damaged, structure } = await checkStore(store);
    expect(structure).toEqual([]);
    expect(damages).toEqual([
      {
        table: 'chunk',
        key: expect.any(String),
        problem: expect.stringContaining('not what its digest says'),
      },
    ]);
    expect(damaged.map(({ path }) => nameOf(path)).sort()).toEqual(['large', 'small']);
  });

  test.each(['directory', 'manifest', 'chunk', 'pathinfo', 'use', 'root', 'nar'])(
    'finds a damaged row of %s',
    async (table) => {
      const store = copy();
      await damageRow(store, table);
      const { damages } = await checkStore(store);
      expect(damages.map((damage) => damage.table)).toEqual([table]);
    },
  );

  test('is told by the exit status, and takes no other store for a local one', async () => {
    const store = copy();
    const sound = await tvixStore(['fsck', '--store', `local://${store}`]);
    expect([sound.status, sound.stdout]).toEqual([0, expect.stringContaining('all is well')]);
    rmSync(chunkFiles(store)[0]!);
    const damaged = await tvixStore(['fsck', '--json', '--store', `local://${store}`]);
    expect(damaged.status).toBe(1);
    expect(JSON.parse(damaged.stdout).damages[0].problem).toBe('its file is missing');
    expect((await tvixStore(['fsck', '--store', 'memory:'])).status).toBe(2);
    expect((await tvixStore(['fsck', '--store', `local://${store}/none`])).status).toBe(1);
  });
});

describe('a repair', () => {
  test('takes damaged paths out of service, and they can be imported again', async () => {
    const store = copy();
    rmSync(chunkFiles(store).find((name) => statSync(name).size !== 90_000)!);
    const { removed, restored } = await repairStore(store);
    expect([removed.length, restored.length]).toEqual([1, 0]);
    // What is left is that a root names what is no longer there.
    const problems = [expect.stringContaining('though the root')];
    expect(await checkStore(store)).toMatchObject({ structure: [], damages: [], paths: [{ problems }] });
    expect((await checkLocalStore(store)).length).toBe(paths.length - 1);
    const again = localStore(store);
    for (const name of ['large', 'tree']) await importStorePath(again, Buffer.from(join(dir, name)), name);
    await again.close();
    expect(isSound(await checkStore(store))).toBe(true);
    expect(await checkLocalStore(store)).toEqual(paths);
  });

  test.each(['directory', 'manifest', 'chunk', 'pathinfo'])(
    'gets what was lost with a row of %s from another store',
    async (table) => {
      const store = copy();
      await damageRow(store, table);
      await withGolden((from) => repairStore(store, from));
      expect(isSound(await checkStore(store))).toBe(true);
      expect(await checkLocalStore(store)).toEqual(paths);
    },
  );

  test('mends contents while another process uses the store, but not the database', async () => {
    const store = copy();
    const mountPoint = join(dir, 'daemon.sock');
    const daemon = await startTvixStore(
      ['daemon', '--store', `local://${store}`, '-l', mountPoint],
      'listening',
    );
    try {
      flip(chunkFiles(store)[0]!, 10);
      const from = `local://${golden}`;
      const mended = await tvixStore(['fsck', '--repair', '--from', from, '--store', `local://${store}`]);
      expect([mended.status, mended.stdout]).toEqual([0, expect.stringContaining('restored')]);
      expect((await tvixStore(['fsck', '--store', `local://${store}`])).status).toBe(0);
    } finally {
      daemon.kill('SIGKILL');
    }
  });

  test.each(['grpc+http://127.0.0.1:1', 'nix+http://127.0.0.1:1', `local://${dir}/nowhere`])(
    'changes nothing when %s is not there to get anything from',
    async (from) => {
      const store = copy();
      await damageRow(store, 'chunk');
      const before = readFileSync(join(store, 'store.lmdb'));
      const { status, stdout, stderr } = await tvixStore(
        ['fsck', '--repair', '--from', from, '--store', `local://${store}`],
        { env: { ...process.env, TVIX_STORE_CACHE: `${store}-cache` } },
      );
      expect([status, stdout]).toEqual([1, '']);
      expect(stderr).toContain(from.replace(/^(nix\+|local:\/\/)/, ''));
      expect(readFileSync(join(store, 'store.lmdb')).equals(before)).toBe(true);
    },
  );

  test('of what is no store says so', async () => {
    expect(await codeOf(checkStore(join(dir, 'nowhere')))).toBe('FAILED_PRECONDITION');
  });
});

test(
  `a flipped bit of the database is found and repaired, or does nothing (${FLIPS} times)`,
  async () => {
    onTestFailed(() => console.error(`to repeat this: TEST_SEED=${SEED}`));
    const random = randomNumbers(SEED);
    const size = statSync(join(golden, 'store.lmdb')).size;
    for (let i = 0; i < FLIPS; i++) {
      const store = copy();
      // Every other in the first bytes of a page, which say what is in it.
      const page = Math.floor((random() * size) / 4096) * 4096;
      const at = page + Math.floor(random() * (i % 2 ? 4096 : 64));
      const bit = Math.floor(random() * 8);
      flip(join(store, 'store.lmdb'), at, bit);
      const where = `bit ${bit} of byte ${at}`;
      if (!isSound(await checkStore(store))) {
        await withGolden((from) => repairStore(store, from));
        expect([where, await checkStore(store)]).toMatchObject([
          where,
          { structure: [], damages: [], paths: [] },
        ]);
      }
      // In a process of its own, which it might end.
      const listed = spawnSync(process.execPath, [
        'dist/cli/main.js',
        'ls',
        '-R',
        '--store',
        `local://${store}`,
      ]);
      expect([where, listed.status]).toEqual([where, 0]);
      expect([where, await checkLocalStore(store)]).toEqual([where, paths]);
      rmSync(store, { recursive: true });
    }
  },
  60_000 + FLIPS * 30_000,
);
