import { spawnSync } from 'node:child_process';
import { crc32 } from 'node:zlib';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { StoredFormat } from '../../src/store/upload/stored.ts';
import { storedFile, storedLength } from '../../src/store/upload/stored.ts';
import { forAllAsync } from '../helpers/arbitraries.ts';
import { randomBytes } from '../helpers/random.ts';
import { all } from '../helpers/services.ts';

/** Contents that come in parts of this length. */
function contentsOf(bytes: Buffer, step = 70_000) {
  return {
    length: bytes.length,
    crc32: crc32(bytes),
    async *read(start: number, end: number) {
      for (let at = start; at < end; at += step) yield bytes.subarray(at, Math.min(end, at + step));
    },
  };
}

async function fileOf(format: StoredFormat, bytes: Buffer, step?: number): Promise<Buffer> {
  const contents = contentsOf(bytes, step);
  const length = storedLength(format, contents);
  const file = Buffer.concat(await all(storedFile(format, contents, 0, length)));
  expect(file.length).toBe(length);
  return file;
}

describe.each(['xz', 'zstd', 'gzip'] as const)('a %s file of stored blocks', (format) => {
  test.each([1, 4, 0xfffe, 0xffff, 0x10000, 0x10001, 0x20000, 0x20001, 1_000_000])(
    'of %i bytes is taken by the program',
    async (length) => {
      const bytes = randomBytes(length, length);
      const { stdout, status, stderr } = spawnSync(format, ['-dc'], {
        input: await fileOf(format, bytes),
        maxBuffer: 1 << 30,
      });
      expect([status, stderr.toString()]).toEqual([0, '']);
      expect(stdout.equals(bytes)).toBe(true);
    },
  );

  test('can be read in part', async () => {
    const bytes = randomBytes(400_000, 'parts');
    const contents = contentsOf(bytes);
    const whole = await fileOf(format, bytes, 1234);
    const position = fc.oneof(
      fc.nat(whole.length),
      fc.nat(20),
      fc.nat(20).map((n) => whole.length - n),
    );
    await forAllAsync(fc.tuple(position, position), async ([a, b]) => {
      const [start, end] = [Math.min(a, b), Math.max(a, b)];
      const part = Buffer.concat(await all(storedFile(format, contents, start, end)));
      expect(part.equals(whole.subarray(start, end))).toBe(true);
    });
  });
});
