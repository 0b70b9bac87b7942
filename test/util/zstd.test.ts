import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { zstdCompress, zstdDecompress, zstdDecompressStream } from '../../src/util/compression/zstd.ts';
import { randomBytes } from '../helpers/random.ts';
import { all, codeOf } from '../helpers/services.ts';

const SKIPPABLE = Buffer.from('532a4d1803000000aabbcc', 'hex');
/** As the Rust programs write one: a stream whose header does not tell its length. */
const UNSIZED = Buffer.from('28b52ffd0458290000', 'hex');

const contents = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc
    .record({ byte: fc.nat(255), length: fc.nat(400_000) })
    .map(({ byte, length }) => Buffer.alloc(length, byte)),
  fc.record({ seed: fc.nat(), length: fc.nat(200_000) }).map(({ seed, length }) => randomBytes(length, seed)),
);

/** Cuts bytes into parts of these lengths. */
function cut(bytes: Uint8Array, lengths: readonly number[]): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const length = lengths[i % lengths.length]!;
    parts.push(bytes.subarray(at, at + length));
    at += length;
  }
  return parts;
}

describe('zstd', () => {
  const streamed = async (parts: Iterable<Uint8Array>) =>
    Buffer.concat(await all(zstdDecompressStream(parts)));

  test('gives back what was compressed, within a limit that just suffices', () => {
    void fc.assert(
      fc.property(contents, (bytes) => {
        const packed = zstdCompress(bytes);
        expect(Buffer.from(zstdDecompress(packed, bytes.length)).equals(bytes)).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  test('refuses what is longer than the limit', async () => {
    for (const length of [1, 1000, 1_000_000, 100_000_000]) {
      const packed = zstdCompress(Buffer.alloc(length));
      expect(await codeOf(() => zstdDecompress(packed, Math.min(length - 1, 1000)))).toBe('DATA_LOSS');
    }
  });

  test('decodes a stream of several frames, however it is split', async () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(fc.array(contents, { minLength: 1, maxLength: 3 }), lengths, async (frames, sizes) => {
        const packed = Buffer.concat([
          SKIPPABLE,
          ...frames.flatMap((frame) => [zstdCompress(frame), SKIPPABLE]),
        ]);
        const whole = Buffer.concat(frames);
        expect((await streamed(cut(packed, sizes))).equals(whole)).toBe(true);
        expect(
          (await streamed(cut(packed.subarray(0, 40), [1]).concat(packed.subarray(40)))).equals(whole),
        ).toBe(true);
        expect(Buffer.from(zstdDecompress(packed, whole.length)).equals(whole)).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  test('says DATA_LOSS for what is cut short, wherever', async () => {
    const packed = Buffer.from(zstdCompress(randomBytes(200_000, 'cut')));
    for (const length of [1, 3, 5, 9, 1000, 150_000, packed.length - 1]) {
      const part = packed.subarray(0, length);
      expect(await codeOf(streamed([part])), `${length} streamed`).toBe('DATA_LOSS');
      expect(await codeOf(() => zstdDecompress(part, 200_000)), `${length}`).toBe('DATA_LOSS');
    }
    expect(await streamed([])).toEqual(Buffer.alloc(0));
  });

  test('says DATA_LOSS for anything else, and nothing but that', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 1, maxLength: 100 }),
        fc.boolean(),
        async (bytes, begun) => {
          const garbage = begun ? Buffer.concat([UNSIZED.subarray(0, 4), bytes]) : bytes;
          for (const decode of [() => streamed([garbage]), async () => zstdDecompress(garbage, 1 << 20)]) {
            const outcome = await decode().then(
              () => 'decoded',
              (error: { code?: string }) => error.code ?? error,
            );
            expect(['decoded', 'DATA_LOSS']).toContain(outcome);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  test('refuses a window that no encoder asks for unasked', async () => {
    const huge = Buffer.from('28b52ffd00f801000061', 'hex');
    expect(await codeOf(streamed([huge]))).toBe('DATA_LOSS');
  });
});
