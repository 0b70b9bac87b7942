import { brotliCompressSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import type { Compression } from '../../src/util/compression/decompress.ts';
import { decompress, parseCompression } from '../../src/util/compression/decompress.ts';
import { decompressXzByProgram } from '../../src/util/compression/xz.ts';
import { damaged } from '../../src/util/errors.ts';
import { program } from '../helpers/compress.ts';
import { lz4Compress } from '../helpers/lz4.ts';
import { randomBytes } from '../helpers/random.ts';
import { all, codeOf } from '../helpers/services.ts';

const COMPRESS: Record<Exclude<Compression, 'none'>, (input: Uint8Array) => Buffer> = {
  xz: program('xz', ['-1c']),
  zstd: program('zstd', ['-1c']),
  gzip: (input) => gzipSync(input),
  br: (input) => brotliCompressSync(input),
  bzip2: program('bzip2', ['-c']),
  lz4: lz4Compress,
};
const FORMATS = Object.keys(COMPRESS) as (keyof typeof COMPRESS)[];
/** What can be said of the native decoders holds for those that stand in for them. */
const DECODERS = [
  ...FORMATS.map((name) => [name, name, (source: Parts) => decompress(name, source)] as const),
  ['xz by the program', 'xz', decompressXzByProgram] as const,
];
type Parts = AsyncIterable<Uint8Array>;

async function* inParts(bytes: Uint8Array, length = 10_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

const whole = async (parts: Parts) => Buffer.concat(await all(parts));
const CONTENTS = Buffer.concat([randomBytes(300_000, 'contents'), Buffer.alloc(300_000, 'again and ')]);

describe.each(DECODERS)('%s', (_, format, decode) => {
  const packed = COMPRESS[format](CONTENTS);

  test('is undone, in whatever parts it comes', async () => {
    expect((await whole(decode(inParts(packed)))).equals(CONTENTS)).toBe(true);
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 3000 }),
        fc.integer({ min: 1, max: 50 }),
        async (bytes, n) => {
          expect((await whole(decode(inParts(COMPRESS[format](bytes), n)))).equals(bytes)).toBe(true);
        },
      ),
      { numRuns: 5 },
    );
  });

  test('may be several, one after the other', async () => {
    if (format === 'br') return;
    const twice = await whole(decode(inParts(Buffer.concat([packed, packed]))));
    expect(twice.equals(Buffer.concat([CONTENTS, CONTENTS]))).toBe(true);
  });

  test('that is cut short, or something else, is refused', async () => {
    for (const length of [packed.length - 1, packed.length - 20, 100_000, 5]) {
      await expect(whole(decode(inParts(packed.subarray(0, length))))).rejects.toThrow();
    }
    await expect(whole(decode(inParts(CONTENTS)))).rejects.toThrow();
  });

  test('hands on what its source fails with', async () => {
    const source = async function* () {
      yield packed.subarray(0, 100_000);
      throw damaged('the source is damaged');
    };
    await expect(whole(decode(source()))).rejects.toThrow('the source is damaged');
  });

  test('does no more than is taken of a bomb, and lets go of its source', async () => {
    const part = COMPRESS[format](Buffer.alloc(64 << 20));
    let ended = false;
    const source = async function* () {
      try {
        for (;;) yield* inParts(part);
      } finally {
        ended = true;
      }
    };
    let taken = 0;
    const before = process.memoryUsage();
    for await (const bytes of decode(source())) {
      taken += bytes.length;
      if (taken > 20 << 20) break;
    }
    expect(taken).toBeLessThan(80 << 20);
    expect(process.memoryUsage().arrayBuffers - before.arrayBuffers).toBeLessThan(100 << 20);
    await vi.waitFor(() => expect(ended).toBe(true));
  });
});

test('xz that needs much memory is refused', async () => {
  const large = program('xz', ['--lzma2=preset=0,dict=256MiB', '-c'])(Buffer.alloc(1000));
  await expect(whole(decompress('xz', inParts(large)))).rejects.toThrow(/memory/i);
  await expect(whole(decompressXzByProgram(inParts(large)))).rejects.toThrow(/memory/i);
});

test('zstd that needs a large window is refused', async () => {
  const large = program('zstd', ['--ultra', '--long=31', '--no-check', '-c'])(Buffer.alloc(1000));
  // A stream of unknown length has the window that was asked for.
  await expect(whole(decompress('zstd', inParts(large)))).rejects.toThrow();
});

test('lz4 that is anything at all becomes something or is refused', async () => {
  const head = Buffer.from('04224d18604082', 'hex');
  const good = lz4Compress(CONTENTS.subarray(290_000, 310_000));
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map((block) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(block.length);
      return Buffer.concat([head, length, block, Buffer.alloc(4)]);
    }),
    fc.tuple(fc.nat(good.length - 1), fc.nat(255)).map(([at, to]) => {
      const changed = Buffer.from(good);
      changed[at] = to;
      return changed;
    }),
  );
  await fc.assert(
    fc.asyncProperty(bytes, async (packed) => {
      const got = await whole(decompress('lz4', inParts(packed))).catch((error) => String(error.code));
      if (typeof got !== 'string') expect(got.length).toBeLessThanOrEqual(1 << 20);
    }),
  );
});

test('an unknown compression is refused by naming those that are known', async () => {
  expect(() => parseCompression('lzip')).toThrow('known are none, xz, zstd');
  expect(await codeOf(() => parseCompression('toString'))).toBe('UNIMPLEMENTED');
  expect(await codeOf(whole(decompress('gzip', inParts(CONTENTS))))).toBe('DATA_LOSS');
});
