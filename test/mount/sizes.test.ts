import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { LocalDirectoryService } from '../../src/castore/directory/local.ts';
import { Directory } from '../../src/castore/directory.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import type { Node } from '../../src/castore/node.ts';
import { parseName } from '../../src/castore/node.ts';
import { ERRNO } from '../../src/fs/file-system.ts';
import { OP } from '../../src/fuse/opcodes.ts';
import { LocalPathInfoService } from '../../src/store/path-info/local.ts';
import { run } from '../helpers/cli.ts';
import { DRIVERS, mount } from '../helpers/mount.ts';
import { storePathOf } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { longs, words } from '../helpers/vhost-front-end.ts';
import { TestVirtiofs } from '../helpers/virtiofs.ts';

/** The first size that cannot be shown. */
const LIMIT = 2n ** 48n;
const SHOWN = {
  largest: LIMIT - 1n,
  odd: 2n ** 40n + 12_345n,
  'four-gib': 2n ** 32n,
  'less-than-four-gib': 2n ** 32n - 1n,
};
const HIDDEN = { limit: LIMIT, 'low-bits-of-7': LIMIT + 7n, 'all-bits': 2n ** 64n - 1n };
const store = `local://${join(tempDir(), 'store')}`;
const NAMES = ['tree', 'largest', 'limit', 'many', 'too-many'] as const;
const pathOf = (name: (typeof NAMES)[number]): string => storePathOf(name).toString();

/** A file that is known by what a directory claims of it. */
function claimed(name: string, size: bigint): Node {
  return { kind: 'file', digest: Digest.hash(Buffer.from(name)), size, executable: name === 'odd' };
}

beforeAll(async () => {
  const local = LocalStore.open(new URL(store).pathname, 'store');
  const directories = new LocalDirectoryService(local);
  const infos = new LocalPathInfoService(local);
  const entries = Object.entries({ ...SHOWN, ...HIDDEN });
  const tree = Directory.of([
    ...entries.map(([name, size]) => [parseName(Buffer.from(name)), claimed(name, size)] as const),
  ]);
  await directories.put(tree);
  const directory = (size: bigint): Node => ({ kind: 'directory', digest: tree.digest, size });
  const nodes: Record<(typeof NAMES)[number], Node> = {
    tree: directory(tree.size),
    largest: claimed('largest', LIMIT - 1n),
    limit: claimed('limit', LIMIT),
    // The size of a directory is the number of elements in it.
    many: directory(LIMIT - 1n),
    'too-many': directory(LIMIT),
  };
  for (const name of NAMES) {
    const narSha256 = Digest.hash(Buffer.from(name)).bytes;
    const told = { references: [], narSize: 1n, narSha256, signatures: [] };
    await infos.put({ storePath: storePathOf(name), node: nodes[name], ...told });
  }
  await local.close();
});

/** What `stat` says in a process of its own: size, blocks and block size, or the reason why not. */
async function stat(path: string): Promise<string> {
  const { stdout, stderr } = await run('stat', ['--format=%s %b %B', path]);
  return stdout.trim() || stderr.trim();
}

const TOO_LARGE = 'Value too large for defined data type';

describe.each(DRIVERS)('with driver %s', (driver) => {
  let root: string;
  let tree: string;

  beforeAll(async () => {
    root = (await mount(['--store', store, '--driver', driver, '--list-root'])).dir;
    tree = join(root, pathOf('tree'));
  });

  test('sizes up to the largest that can be shown are right to the byte', async () => {
    const right = (size: bigint) => `${size} ${(size + 511n) / 512n} 512`;
    for (const [name, size] of Object.entries(SHOWN)) {
      expect([name, await stat(join(tree, name))]).toEqual([name, right(size)]);
    }
    expect(await stat(join(root, pathOf('largest')))).toBe(right(LIMIT - 1n));
    expect(await stat(join(root, pathOf('many')))).toBe(`${LIMIT - 1n} 0 512`);
  });

  test('a larger one is EOVERFLOW, to stat and to open', async () => {
    const hidden = Object.keys(HIDDEN).map((name) => join(tree, name));
    for (const path of [...hidden, join(root, pathOf('limit')), join(root, pathOf('too-many'))]) {
      expect(await stat(path)).toContain(TOO_LARGE);
      expect((await run('cat', [path])).stderr).toContain(TOO_LARGE);
    }
  });

  test('a directory with such files lists all of them, and shows the others', async () => {
    const expected = [...Object.keys(SHOWN), ...Object.keys(HIDDEN)].sort();
    expect((await run('ls', [tree])).stdout.trim().split('\n').sort()).toEqual(expected);
    const long = await run('ls', ['-l', tree]);
    expect(long.stdout).toContain(` ${LIMIT - 1n} `);
    expect(long.stderr.match(new RegExp(TOO_LARGE, 'g'))).toHaveLength(3);
  });
});

test('a virtual machine is told the same', async () => {
  const server = await TestVirtiofs.start(['--store', store]);
  await server.mounted(async (guest) => {
    const lookUp = (parent: number, name: string) =>
      guest.ask(OP.LOOKUP, parent, Buffer.from(`${name}\0`), 128);
    const id = ({ body }: { body: Buffer }) => Number(body.readBigUInt64LE(0));
    const tree = id(await lookUp(1, pathOf('tree')));
    for (const [name, size] of Object.entries(SHOWN)) {
      const entry = await lookUp(tree, name);
      expect([name, entry.body.readBigUInt64LE(48)]).toEqual([name, size]);
      const attributes = await guest.ask(OP.GETATTR, id(entry), longs(0, 0), 104);
      expect([name, attributes.body.readBigUInt64LE(24)]).toEqual([name, size]);
      const stat = await guest.ask(OP.STATX, id(entry), Buffer.alloc(24), 288);
      expect([name, stat.body.readBigUInt64LE(32 + 40)]).toEqual([name, size]);
    }
    for (const name of Object.keys(HIDDEN)) {
      expect([name, (await lookUp(tree, name)).error]).toEqual([name, -ERRNO.EOVERFLOW]);
    }
    for (const name of ['limit', 'too-many'] as const) {
      expect([name, (await lookUp(1, pathOf(name))).error]).toEqual([name, -ERRNO.EOVERFLOW]);
    }
    const list = Buffer.concat([longs(0, 0), words(8192, 0, 0, 0, 0, 0)]);
    expect((await guest.ask(OP.READDIRPLUS, tree, list, 8192)).body.toString('latin1')).toContain('all-bits');
  });
  await server.stop();
});
