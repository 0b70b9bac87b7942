import { Readable } from 'node:stream';
import { brotliDecompressSync, crc32 } from 'node:zlib';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { StoredFormat } from '../../src/store/upload/stored.ts';
import { storedFile, storedLength } from '../../src/store/upload/stored.ts';
import { decompress } from '../../src/util/compression/decompress.ts';
import { forAllAsync } from '../helpers/arbitraries.ts';
import { program } from '../helpers/compress.ts';
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

/** What undoes a format. */
const UNPACK: Record<StoredFormat, (input: Buffer) => Promise<Buffer> | Buffer> = {
  xz: program('xz', ['-dc']),
  zstd: program('zstd', ['-dc']),
  gzip: program('gzip', ['-dc']),
  lz4: async (input) => Buffer.concat(await all(decompress('lz4', Readable.from([input])))),
  br: brotliDecompressSync,
};

describe.each(Object.keys(UNPACK) as StoredFormat[])('a %s file of stored blocks', (format) => {
  test.each([1, 4, 0xfffe, 0xffff, 0x10000, 0x10001, 0x20000, 0x20001, 1_000_000])(
    'of %i bytes becomes what it is of',
    async (length) => {
      const bytes = randomBytes(length, length);
      const unpacked = await UNPACK[format](await fileOf(format, bytes));
      expect(unpacked.equals(bytes)).toBe(true);
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
