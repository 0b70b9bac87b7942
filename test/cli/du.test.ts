import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { tvixStore } from '../helpers/cli.ts';
import { countingDaemon } from '../helpers/counting-daemon.ts';
import { randomBytes } from '../helpers/random.ts';
import { localStore } from '../helpers/services.ts';
import { putStorePath, storePathOf } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, symlink } from '../helpers/trees.ts';

const dir = tempDir();
const store = `local://${dir}/store`;
const bucket = `objectstore+file://${dir}/bucket`;
const at = (name: string) => storePathOf(name).absolute();
const LARGE = 700_000;
const large = (seed: string) => randomBytes(LARGE, seed);

async function good(...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await tvixStore(args);
  expect({ args, status, stderr }).toMatchObject({ status: 0 });
  return stdout;
}
const du = async (...args: string[]) => JSON.parse(await good('du', '--json', ...args));
const narSizes: Record<string, number> = {};

beforeAll(async () => {
  const filled = localStore(join(dir, 'store'));
  const put = async (name: string, tree: Parameters<typeof directory>[0], ...references: string[]) => {
    const info = await putStorePath(filled, name, directory(tree), {
      references: references.map(storePathOf),
    });
    narSizes[name] = Number(info.narSize);
  };
  const shared = file(large('shared'));
  await put('lib', { shared, twice: directory({ shared }), own: file(large('lib')) });
  await put('app', { shared, own: file(large('app')), '\xff\xfe': symlink('x'), empty: file() }, 'lib');
  await put('tool', { small: file('small') }, 'app');
  await filled.close();
  await good('copy', '--from', store, '--to', bucket, '--all');
});

/** Directories, and rows of chunk lists, have some bytes. */
const about = (bytes: number) => expect.toSatisfy((got: number) => got >= bytes && got < bytes + 2000);

describe('du', () => {
  test('tells what a path takes, what of it is its own, and the same of its closure', async () => {
    const { paths } = await du('--store', store, at('lib'), at('app'), at('tool'));
    expect(paths).toEqual([
      {
        path: at('lib'),
        narSize: narSizes.lib,
        contents: about(2 * LARGE),
        own: about(LARGE),
        isWhole: true,
        closure: { paths: 1, missing: 0, narSize: narSizes.lib, contents: about(2 * LARGE) },
      },
      {
        path: at('app'),
        narSize: narSizes.app,
        contents: about(2 * LARGE),
        own: about(LARGE),
        isWhole: true,
        closure: {
          paths: 2,
          missing: 0,
          narSize: narSizes.app! + narSizes.lib!,
          contents: about(3 * LARGE),
        },
      },
      {
        path: at('tool'),
        narSize: narSizes.tool,
        contents: about(5),
        own: about(5),
        isWhole: true,
        closure: {
          paths: 3,
          missing: 0,
          narSize: narSizes.tool! + narSizes.app! + narSizes.lib!,
          contents: about(3 * LARGE),
        },
      },
    ]);
  });

  test('says the same of what is its own whether asked for one path or for all, and as stats does', async () => {
    const all = await du('--store', store, '--all');
    expect(all.contents).toEqual(about(3 * LARGE));
    expect(all.narSize).toBe(Object.values(narSizes).reduce((a, b) => a + b));
    expect(all.paths).toHaveLength(3);
    const { largest } = JSON.parse(await good('stats', '--store', store, '--json'));
    for (const { path, ownSize } of largest) {
      const [one] = (await du('--store', store, path)).paths;
      const inAll = all.paths.find((other: { path: string }) => other.path === path);
      expect([one.own, inAll.own]).toEqual([ownSize, ownSize]);
      expect(inAll.contents).toBe(one.contents);
    }
    expect(all.paths.at(-1).path).toBe(at('tool'));
  });

  test('is what a collection frees when only this path goes', async () => {
    const [{ own }] = (await du('--store', store, at('tool'))).paths;
    await good('root', 'add', '--store', store, 'app', at('app'));
    const freed = JSON.parse(
      (await good('gc', '--store', store, '--older-than', '0', '--dry-run', '--json'))
        .trim()
        .split('\n')
        .at(-1)!,
    );
    // A collection counts whole rows: that of a small chunk has a byte more.
    expect(freed).toMatchObject({ paths: 1, chunks: 1, bytes: own + 1 });
    await good('root', 'remove', '--store', store, 'app');
  });

  test('prints a table for people', async () => {
    const lines = (await good('du', '--store', store, at('app'), at('lib'))).trimEnd().split('\n');
    expect(lines).toHaveLength(5);
    expect(lines[0]).toMatch(/^ +CONTENTS +OWN +NAR {2}STORE PATH$/);
    expect(lines[1]).toMatch(new RegExp(`^ +1\\.3 MiB +68\\d\\.\\d KiB +1\\.3 MiB {2}${at('app')}$`));
    expect(lines[2]).toMatch(/^ +2\.0 MiB +3\.3 MiB {4}with what it refers to: 2 store paths$/);
    expect(lines[3]).toContain(at('lib'));
    expect(lines[4]).toMatch(/^ +2\.0 MiB +3\.3 MiB {2}together$/);
  });

  test.each(['daemon', 'bucket'])('of a %s asks for directories and chunk lists alone', async (kind) => {
    const daemon = await countingDaemon(join(dir, 'store'));
    try {
      const far = ['--store', kind === 'daemon' ? daemon.url : bucket];
      const { paths } = await du(...far, at('app'));
      expect(paths).toEqual([
        {
          path: at('app'),
          narSize: narSizes.app,
          contents: about(2 * LARGE),
          isWhole: true,
          closure: {
            paths: 2,
            missing: 0,
            narSize: narSizes.app! + narSizes.lib!,
            contents: about(3 * LARGE),
          },
        },
      ]);
      const all = await du(...far, '--all');
      expect(all.contents).toEqual(about(3 * LARGE));
      expect(all.paths.map(({ own }: { own: number }) => own)).toEqual([
        about(LARGE),
        about(LARGE),
        about(5),
      ]);
      // One question for all directories of a tree, one for each large file in it; of app and lib, then of all.
      if (kind === 'daemon') {
        expect(daemon.directories).toHaveLength(5);
        // Each client asks for nothing once, to learn which dialect is spoken.
        expect(daemon.blobs).toEqual({ has: expect.any(Number), chunksInPieces: 8 + 2 });
      }
    } finally {
      await daemon.stop();
    }
  });

  test('of a cache tells what has come so far', async () => {
    const cache = join(dir, 'cache');
    await good('warm', '--store', bucket, '--cache', cache, at('tool'));
    const { paths } = await du('--store', `local://${cache}`, at('tool'));
    expect(paths).toMatchObject([
      { path: at('tool'), isWhole: true, contents: about(5), closure: { paths: 1, missing: 1 } },
    ]);
    expect(await good('du', '--store', `local://${cache}`, at('tool'))).toContain(
      'with what it refers to: 1 store paths, and 1 that are not here\n',
    );
  });

  test('of a binary cache knows the NARs alone, and fetches none', async () => {
    const target = `nix+file://${dir}/binary`;
    const key = join(dir, 'key');
    await good('key', 'generate', '--file', key, 'key-1');
    await good('sign', '--all', '--store', store, '--key-file', key);
    await good('copy', '--from', store, '--to', target, at('app'));
    const trusted = (await good('key', 'public', '--file', key)).trim();
    const cache = join(dir, 'nix-cache');
    const { paths } = await du(
      ...['--store', target, '--cache', cache, '--trusted-public-keys', trusted],
      at('app'),
    );
    expect(paths).toEqual([
      {
        path: at('app'),
        narSize: narSizes.app,
        isWhole: true,
        closure: { paths: 2, missing: 0, narSize: narSizes.app! + narSizes.lib! },
      },
    ]);
    const { stdout } = await tvixStore(['stats', '--store', `local://${cache}`, '--json']);
    expect(JSON.parse(stdout)).toMatchObject({ chunks: 0 });
  });

  test('of what is not there is a failure', async () => {
    const { status, stderr } = await tvixStore(['du', '--store', store, at('none')]);
    expect([status, stderr]).toEqual([1, `error: ${at('none')} is not in the store\n`]);
  });
});
