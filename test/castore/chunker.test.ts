import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { chunked, cutter } from '../../src/castore/blob/chunker.ts';
import type { CutterOptions } from '../../src/castore/blob/cutter-options.ts';
import { DEFAULT_CUTTER } from '../../src/castore/blob/cutter-options.ts';
import { Digest } from '../../src/castore/digest.ts';
import { tvix } from '../../src/proto/messages.ts';
import { toHex } from '../../src/util/bytes.ts';
import { forAll } from '../helpers/arbitraries.ts';
import { describeFacts } from '../helpers/facts.ts';
import { counterBytes, randomBytes } from '../helpers/random.ts';

/** The masks of FastCDC v2020 for an average of 1024 bytes. */
const SMALL: CutterOptions = {
  min: 512,
  average: 1024,
  max: 2048,
  maskSmall: 0x0000d90003530000n,
  maskLarge: 0x0000019000353000n,
};

function cuts(bytes: Uint8Array, options: CutterOptions): number[] {
  const next = cutter(options);
  const sizes: number[] = [];
  for (let at = 0; at < bytes.length; at += sizes.at(-1)!) sizes.push(next(bytes, at, bytes.length) - at);
  return sizes;
}

async function chunksOf(parts: Iterable<Uint8Array>): Promise<Buffer[]> {
  const list: Buffer[] = [];
  for await (const chunk of chunked(parts)) list.push(Buffer.from(chunk));
  return list;
}

describeFacts('fastcdc', (all) => {
  const fact = (name: string) => all.find((one) => one.name === name)!;

  test('params', () => {
    const { min, avg, max, algorithm } = fact('params').expected;
    expect(DEFAULT_CUTTER).toMatchObject({ min, average: avg, max });
    for (const mask of [DEFAULT_CUTTER.maskSmall, DEFAULT_CUTTER.maskLarge]) {
      expect(algorithm).toContain(`0x${mask.toString(16).padStart(16, '0')}`);
    }
  });

  test('BLOB_B_default_params', async () => {
    const { chunk_sizes, chunk_blake3_hex } = fact('BLOB_B_default_params').expected;
    const period = Array.from({ length: 255 }, (_, i) => i);
    const chunks = await chunksOf([Buffer.alloc(255 * 4096, Buffer.from(period))]);
    expect(chunks.map((chunk) => chunk.length)).toEqual(chunk_sizes);
    expect(chunks.map((chunk) => Digest.hash(chunk).hex)).toEqual(chunk_blake3_hex);
  });

  test('sha256_counter_64KiB_512_1024_2048', () => {
    const { input, expected } = fact('sha256_counter_64KiB_512_1024_2048');
    expect(cuts(counterBytes(input.length), SMALL)).toEqual(expected.chunk_sizes);
  });
});

describeFacts('objectstore_layout', (all) => {
  test('the chunks of 4 MiB with the parameters in use', async () => {
    const { expected } = all.find((one) => one.name === 'stat_blob_response_4MiB')!;
    const { chunks } = tvix.castore.v1.StatBlobResponse.decode(Buffer.from(expected.proto_hex, 'hex'));
    const ours = await chunksOf([counterBytes(4 << 20)]);
    expect(ours.map((chunk) => [Digest.hash(chunk).hex, chunk.length])).toEqual(
      chunks.map((chunk) => [toHex(chunk.digest!), Number(chunk.size)]),
    );
  });
});

describe('cutting a stream into chunks', () => {
  // Runs of the same bytes, as real files have them, longer than a chunk and than the window.
  const contents = Buffer.concat([
    randomBytes(1_300_000, 'a'),
    Buffer.alloc(1_200_000),
    randomBytes(700_001, 'b'),
    randomBytes(1_300_000, 'a'),
  ]);

  test('gives chunks within the limits that join to the stream', async () => {
    const chunks = await chunksOf([contents]);
    expect(Buffer.concat(chunks).equals(contents)).toBe(true);
    for (const chunk of chunks.slice(0, -1)) {
      expect(chunk.length).toBeGreaterThanOrEqual(DEFAULT_CUTTER.min);
      expect(chunk.length).toBeLessThanOrEqual(DEFAULT_CUTTER.max);
    }
    expect(chunks.map((chunk) => chunk.length)).toEqual(cuts(contents, DEFAULT_CUTTER));
  });

  test.each([1, 4093, 131_072, 1_000_003])('gives the same chunks for parts of %i bytes', async (step) => {
    const part = contents.subarray(0, step === 1 ? 300_000 : contents.length);
    const parts = Array.from({ length: Math.ceil(part.length / step) }, (_, i) =>
      part.subarray(i * step, (i + 1) * step),
    );
    const sizes = (await chunksOf(parts)).map((chunk) => chunk.length);
    expect(sizes).toEqual(cuts(part, DEFAULT_CUTTER));
  });

  test('finds the same chunks again behind an insertion', async () => {
    const digests = async (bytes: Buffer) => (await chunksOf([bytes])).map((chunk) => Digest.hash(chunk).hex);
    const before = await digests(contents);
    const after = await digests(Buffer.concat([Buffer.from('inserted'), contents]));
    expect(after.filter((digest) => !before.includes(digest)).length).toBeLessThanOrEqual(2);
  });

  test('gives one empty chunk for an empty stream', async () => {
    expect(await chunksOf([])).toEqual([Buffer.alloc(0)]);
    expect(await chunksOf([Buffer.alloc(0)])).toEqual([Buffer.alloc(0)]);
  });

  test('cuts where an exact 64-bit hash does', () => {
    const source = randomBytes(1 << 20, 'exact');
    forAll(
      fc.tuple(fc.nat(source.length), fc.nat(20_000), fc.nat(255), fc.nat(3000)),
      ([start, length, filler, fillerLength]) => {
        const bytes = Buffer.concat([
          source.subarray(start, start + length),
          Buffer.alloc(fillerLength, filler),
        ]);
        expect(cuts(bytes, SMALL)).toEqual(exactCuts(bytes, SMALL));
      },
      60,
    );
  });
});

/** The algorithm as its paper has it, on 64-bit numbers. */
function exactCuts(bytes: Buffer, options: CutterOptions): number[] {
  const sizes: number[] = [];
  for (let start = 0; start < bytes.length; start += sizes.at(-1)!) {
    const length = Math.min(bytes.length - start, options.max);
    sizes.push(exactCut(bytes.subarray(start, start + length), options));
  }
  return sizes;
}

function exactCut(bytes: Buffer, { min, average, maskSmall, maskLarge }: CutterOptions): number {
  let hash = 0n;
  const centre = Math.min(average, bytes.length) & ~1;
  for (let i = min; i < (bytes.length & ~1); i++) {
    hash = BigInt.asUintN(64, (hash << 1n) + GEAR[bytes[i]!]!);
    if ((hash & (i < centre ? maskSmall : maskLarge)) === 0n) return i;
  }
  return bytes.length;
}

const GEAR = Array.from({ length: 256 }, (_, byte) =>
  createHash('md5').update(Buffer.alloc(64, byte)).digest().readBigUInt64BE(),
);
