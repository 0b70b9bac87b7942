import { createHash } from 'node:crypto';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { run, tvixStore } from '../helpers/cli.ts';
import type { DriverName } from '../helpers/mount.ts';
import { DRIVERS, mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { chunkFiles, rot } from '../helpers/rot.ts';
import { tempDir } from '../helpers/temp.ts';

const LENGTH = 40 << 20;
const contents = randomBytes(LENGTH, 'large');
const source = join(tempDir(), 'large');
const python = join(tempDir(), 'read.py');

/** Reads ranges (offset:length) of a file without read-ahead, and says of each what came. */
const PYTHON = `
import hashlib, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
for part in sys.argv[2:]:
    offset, length = map(int, part.split(":"))
    print(hashlib.sha256(os.pread(fd, length, offset)).hexdigest())
`;

beforeAll(() => {
  writeFileSync(source, contents);
  writeFileSync(python, PYTHON);
});

/** A store of one large file. */
async function imported(file = source) {
  const dir = join(tempDir(), 'store');
  const store = `local://${dir}`;
  const path = (await tvixStore(['import', '--store', store, file])).stdout.trim();
  return { dir, store, name: path.slice(path.lastIndexOf('/') + 1) };
}

/** Where chunk files lie in the large file. */
const placeOf = (chunk: string) => contents.indexOf(readFileSync(chunk));

describe.each(DRIVERS)('a large file, by %s', (driver: DriverName) => {
  test('read in order, by several at once and in jumps, is what was imported', async () => {
    const { store, name } = await imported();
    const mounted = await mount(['--driver', driver, '--store', store]);
    const file = join(mounted.dir, name);
    const jumps = Array.from({ length: 40 }, (_, i) => ({
      offset: (i * 7_654_321) % LENGTH,
      length: 1 + ((i * 131_071) % (2 << 20)),
    }));
    const ranges = jumps.map(({ offset, length }) => `${offset}:${length}`);
    const compare = run('cmp', [file, source]);
    const behind = run('sh', ['-c', `tail -c +9000001 ${file} | sha256sum`]);
    const jumping = run('python3', [python, file, ...ranges]);
    expect(await compare).toMatchObject({ status: 0 });
    expect((await behind).stdout).toBe(
      (await run('sh', ['-c', `tail -c +9000001 ${source} | sha256sum`])).stdout,
    );
    const wanted = jumps.map(({ offset, length }) =>
      createHash('sha256')
        .update(contents.subarray(offset, offset + length))
        .digest('hex'),
    );
    expect((await jumping).stdout.trim().split('\n')).toEqual(wanted);
    expect((await mounted.stop()).status).toBe(0);
  });

  test('of which a chunk is rotten is right up to that, and EIO from there', async () => {
    const { dir, store, name } = await imported();
    const behind = chunkFiles(dir).filter((chunk) => placeOf(chunk) > LENGTH / 2);
    const chunk = behind[Math.floor(behind.length / 2)]!;
    const place = placeOf(chunk);
    // Of the page that holds the end of a chunk, all is needed.
    const end = Math.ceil((place + readFileSync(chunk).length) / 4096) * 4096;
    rot(chunk);
    const mounted = await mount(['--driver', driver, '--store', store]);
    const file = join(mounted.dir, name);
    const copy = join(tempDir(), 'copy');
    const { status, stderr } = await run('cp', [file, copy]);
    expect(status).toBe(1);
    expect(stderr).toContain('Input/output error');
    const copied = readFileSync(copy);
    expect(copied.length).toBeLessThanOrEqual(place);
    expect(copied.equals(contents.subarray(0, copied.length))).toBe(true);
    expect(mounted.log()).toMatch(/chunk \S+ of blob \S+ is damaged .*; it belongs to /);
    // What lies behind it can be read.
    writeFileSync(`${copy}.tail`, contents.subarray(end));
    const tail = await run('sh', ['-c', `tail -c ${LENGTH - end} ${file} | cmp - ${copy}.tail`]);
    expect(tail).toMatchObject({ status: 0 });
    expect((await mounted.stop()).status).toBe(0);
  });
});

test('a chunk that is cut off while it is read is EIO, and no byte that is not its own', async () => {
  const { dir, store, name } = await imported();
  const mounted = await mount(['--store', store]);
  const chunk = chunkFiles(dir).find((chunk) => placeOf(chunk) === 0)!;
  chmodSync(chunk, 0o644);
  const cut = `import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
# Another one behind it, as the last that was hashed is kept.
print(len(os.pread(fd, 4096, 0)), len(os.pread(fd, 4096, 20 << 20)))
os.truncate(sys.argv[2], 5000)
try:
    print(len(os.pread(fd, ${readFileSync(chunk).length - 8192}, 4096)))
except OSError as error:
    print(error.errno)
print(len(os.pread(fd, 200000, 21 << 20)))
`;
  const { stdout } = await run('python3', ['-c', cut, join(mounted.dir, name), chunk]);
  expect(stdout).toBe('4096 4096\n5\n200000\n');
  expect((await mounted.stop()).status).toBe(0);
});
