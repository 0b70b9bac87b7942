import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { CacheFiller } from '../../src/castore/local/filler.ts';
import { setLogLevel } from '../../src/util/log.ts';
import { close, open } from '../helpers/local-store.ts';
import { randomBytes } from '../helpers/random.ts';
import { codeOf, readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

/** Mounts an empty file system; false where this user may not. */
function mountTmpfs(dir: string): boolean {
  return spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'none', dir]).status === 0;
}

const canMount = () => {
  const dir = tempDir();
  return mountTmpfs(dir) && spawnSync('umount', [dir]).status === 0;
};

describe.skipIf(!canMount())('a full disk (a small file system, which only root can mount)', () => {
  const mounted: string[] = [];
  afterAll(() => {
    for (const dir of mounted) spawnSync('umount', ['-l', dir]);
  });

  /** A file system of a few MiB. */
  const small = (): string => {
    const dir = tempDir();
    mountTmpfs(dir);
    mounted.push(dir);
    return dir;
  };
  // What LMDB and the log say about it does not belong into the output of the tests.
  beforeEach(() => {
    vi.spyOn(console, 'error').mockImplementation(() => {});
    setLogLevel('error');
  });
  afterEach(() => {
    vi.restoreAllMocks();
    setLogLevel('info');
  });

  test.each([
    ['chunk files', 500_000],
    ['rows', 30_000],
  ])('is NO_SPACE when %s fill it, harms nothing, and is over when there is room', async (_, size) => {
    const dir = small();
    const { store, blobs } = open(join(dir, 'store'));
    const kept = await blobs.put(randomBytes(100_000, 'kept'));
    await blobs.flush();
    const fill = async () => {
      for (let i = 0; i < 10_000_000 / size; i++) await blobs.put(randomBytes(size, `fill ${i}`));
      await blobs.flush();
    };
    expect(await codeOf(fill())).toBe('NO_SPACE');
    expect((await readBlob({ blobs }, kept.digest))?.length).toBe(100_000);
    await close(store);

    const again = open(join(dir, 'store'));
    expect((await readBlob(again, kept.digest))?.length).toBe(100_000);
    spawnSync('mount', ['-o', 'remount,size=40m', dir]);
    const contents = randomBytes(size, 'fill 0');
    await again.blobs.put(contents);
    await again.blobs.flush();
    expect((await readBlob(again, Digest.hash(contents)))?.equals(contents)).toBe(true);
  });

  test('is forgotten by the same writer: what could not be stored is stored by the next try', async () => {
    const dir = small();
    const { blobs } = open(join(dir, 'store'));
    const contents = Array.from({ length: 300 }, (_, i) => randomBytes(30_000, `retry ${i}`));
    const putAll = async () => {
      for (const bytes of contents) await blobs.put(bytes);
      await blobs.flush();
    };
    expect(await codeOf(putAll())).toBe('NO_SPACE');
    await blobs.flush().catch(() => {});
    spawnSync('mount', ['-o', 'remount,size=40m', dir]);
    await putAll();
    for (const bytes of contents) {
      expect((await readBlob({ blobs }, Digest.hash(bytes)))?.equals(bytes)).toBe(true);
    }
  });

  test('does not fail a fill of a cache', async () => {
    const dir = small();
    const { store, blobs } = open(join(dir, 'cache'), 'cache');
    const filler = new CacheFiller(store.env);
    for (const size of [500_000, 30_000]) {
      await Promise.all(
        Array.from({ length: 8_000_000 / size }, (_, i) => {
          const bytes = randomBytes(size, `${size} ${i}`);
          return filler.chunk(Digest.hash(bytes), bytes).kept;
        }),
      );
    }
    expect((await readBlob({ blobs }, Digest.hash(randomBytes(500_000, '500000 0'))))?.length).toBe(500_000);
    await filler.close();
  });
});
