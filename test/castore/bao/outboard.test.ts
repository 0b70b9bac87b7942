import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { OutboardMaker, type Proof } from '../../../src/castore/bao/maker.ts';
import { OutboardReader } from '../../../src/castore/bao/reader.ts';
import { GROUP_LENGTH, outboardLength } from '../../../src/castore/bao/shape.ts';
import { groupValues } from '../../../src/castore/bao/values.ts';
import { heldOutboard } from '../../../src/castore/bao/whole.ts';
import { Digest } from '../../../src/castore/digest.ts';
import { toHex } from '../../../src/util/bytes.ts';
import { forAll, forAllAsync } from '../../helpers/arbitraries.ts';
import { ROOT } from '../../helpers/cli.ts';
import { randomBytes } from '../../helpers/random.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** What the vectors are made of: byte `i` is `i` modulo 251. */
const pattern = (length: number) => Uint8Array.from({ length }, (_, i) => i % 251);
const proofOf = (...parts: Uint8Array[]) =>
  parts.reduce((maker, part) => maker.update(part), new OutboardMaker()).finish();
const readerOf = ({ digest, size, outboard }: Proof) =>
  new OutboardReader({ digest, size }, heldOutboard(outboard));

/** Sizes at which the tree gets another shape, and a few bytes about them. */
const sizes = fc
  .tuple(
    fc.constantFrom(0, 64, KIB, 3 * KIB, 16 * KIB, 32 * KIB, 48 * KIB, 64 * KIB, 80 * KIB),
    fc.integer({ min: -2, max: 2 }),
  )
  .map(([size, more]) => Math.max(0, size + more));
const anySize = fc.oneof(sizes, fc.nat(300 * KIB));

describe('an outboard', () => {
  test.each([
    [0, 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262', ''],
    [16 * KIB, 'f875d6646de28985646f34ee13be9a576fd515f76b5b0a26bb324735041ddde4', ''],
    [
      16 * KIB + 1,
      '1dabe216be2578830263b049de1639f39f05a4da616b9b78c7a5e4e41662fd1f',
      '5384f9b342c6cb86badedcbe662b0e980476a8db17db3cc1f13b19329749ab1f' +
        '7eec20c857faf93c8102396e3b2ea90bcdf693ebd5cbd77211e5f606d72bc1a5',
    ],
  ])('of %i bytes is as other programs make it', (length, root, outboard) => {
    const proof = proofOf(pattern(length));
    expect([proof.digest.hex, toHex(proof.outboard)]).toEqual([root, outboard]);
  });

  const file = join(ROOT, '../shared/conformance/bao.json');
  test.skipIf(!existsSync(file))(`is that of every vector (skipped without ${file})`, () => {
    const { vectors } = JSON.parse(readFileSync(file, 'utf8'));
    for (const { len, root, outboard_len, outboard_b3 } of vectors) {
      const { digest, outboard } = proofOf(pattern(len));
      const found = [len, digest.hex, outboard.length, Digest.hash(outboard).hex];
      expect(found).toEqual([len, root, outboard_len, outboard_b3]);
    }
    expect(vectors.length).toBeGreaterThan(5);
  });

  test('has the digest as its root, whatever the length and wherever its parts are cut', () => {
    const cases = fc.record({ size: anySize, cuts: fc.array(fc.nat(300 * KIB), { maxLength: 6 }) });
    forAll(cases, ({ size, cuts }) => {
      const bytes = randomBytes(size, size);
      const places = [0, ...cuts.filter((cut) => cut < size).sort((a, b) => a - b), size];
      const parts = places.slice(1).map((end, i) => bytes.subarray(places[i], end));
      const proof = proofOf(...parts);
      expect([proof.size, proof.digest.hex]).toEqual([size, Digest.hash(bytes).hex]);
      expect(proof.outboard.length).toBe(outboardLength(size));
    });
  });

  test('of several megabytes has the digest as its root', () => {
    for (const size of [4 * MIB, 4 * MIB + 1, 37 * MIB + 12_345]) {
      const bytes = randomBytes(size, size);
      expect(proofOf(bytes).digest.hex).toBe(Digest.hash(bytes).hex);
    }
  });

  test('counts chunks beyond 32 bits: a group far behind has another value', () => {
    const group = pattern(GROUP_LENGTH);
    const at = (first: number) => toHex(groupValues(group, first));
    expect(new Set([at(0), at(2 ** 28), at(2 ** 29), at(2 ** 32)]).size).toBe(4);
  });
});

describe('a reader of outboards', () => {
  /** Whole groups of a blob, by the numbers of the first and of the one behind the last. */
  const ranges = (size: number) => {
    const groups = Math.ceil(size / GROUP_LENGTH);
    return fc.tuple(fc.nat(Math.max(0, groups - 1)), fc.nat(groups)).map(([a, b]) => ({
      from: Math.min(a, b) * GROUP_LENGTH,
      end: Math.min(size, Math.max(a, b) * GROUP_LENGTH),
    }));
  };
  const cases = anySize.chain((size) =>
    fc.record({ size: fc.constant(size), range: ranges(size), bit: fc.nat() }),
  );
  const refusal = expect.objectContaining({ code: 'DATA_LOSS' });

  test('proves any groups that are right, and none with a bit flipped', async () => {
    await forAllAsync(cases, async ({ size, range: { from, end }, bit }) => {
      const bytes = randomBytes(size, size);
      const proof = proofOf(bytes);
      await readerOf(proof).prove(from, bytes.subarray(from, end));
      if (from === end) return;
      const wrong = flipped(bytes.subarray(from, end), bit);
      await expect(readerOf(proof).prove(from, wrong)).rejects.toEqual(refusal);
    });
  });

  test('proves nothing by an outboard with a bit flipped, but what that bit does not touch', async () => {
    await forAllAsync(cases, async ({ size, range: { from, end }, bit }) => {
      const bytes = randomBytes(size, size);
      const proof = proofOf(bytes);
      if (proof.outboard.length === 0) return;
      const reader = readerOf({ ...proof, outboard: flipped(proof.outboard, bit) });
      await expect(reader.prove(0, bytes)).rejects.toEqual(refusal);
      await reader.prove(from, bytes.subarray(from, end)).catch((error) => expect(error).toEqual(refusal));
    });
  });

  test('knows a wrong size at the end of the blob, and gives no wrong bytes before it', async () => {
    const lies = fc.record({ size: anySize, said: anySize, group: fc.nat(20) });
    await forAllAsync(lies, async ({ size, said, group }) => {
      if (size === said) return;
      const bytes = randomBytes(size, size);
      const proof = proofOf(bytes);
      // The liar's outboard has the length that fits what is said, and its bytes come from the true one.
      const outboard = Buffer.alloc(outboardLength(said), proof.outboard.length > 0 ? proof.outboard : 1);
      const reader = readerOf({ digest: proof.digest, size: said, outboard });
      const padded = Buffer.alloc(said, bytes.length > 0 ? bytes : 1);
      const last = Math.max(0, Math.ceil(said / GROUP_LENGTH) - 1) * GROUP_LENGTH;
      await expect(reader.prove(last, padded.subarray(last))).rejects.toEqual(refusal);
      const from = Math.min(group * GROUP_LENGTH, last);
      const some = padded.subarray(from, from + GROUP_LENGTH);
      const isProven = await reader.prove(from, some).then(
        () => true,
        () => false,
      );
      if (isProven) expect(Buffer.compare(some, bytes.subarray(from, from + GROUP_LENGTH))).toBe(0);
    });
  });

  test('reads what it needs of a large outboard, once', async () => {
    const bytes = randomBytes(20 * MIB + 777, 'large');
    const proof = proofOf(bytes);
    let read = 0;
    const reader = new OutboardReader(proof, {
      length: proof.outboard.length,
      async read(at, length) {
        read += length;
        return proof.outboard.subarray(at, at + length);
      },
    });
    const middle = bytes.subarray(9 * MIB, 9 * MIB + GROUP_LENGTH);
    await reader.prove(9 * MIB, middle);
    expect(read).toBeLessThan(17 * KIB);
    await reader.prove(9 * MIB, middle);
    expect(read).toBeLessThan(17 * KIB);
    await expect(reader.prove(10 * MIB, middle)).rejects.toEqual(refusal);
    await reader.prove(0, bytes);
    expect(read).toBe(proof.outboard.length);
  });

  test('tells of outboards that are too short, or not to be had', async () => {
    const bytes = pattern(50 * KIB);
    const proof = proofOf(bytes);
    const short = readerOf({ ...proof, outboard: proof.outboard.subarray(1) });
    await expect(short.prove(0, bytes)).rejects.toEqual(refusal);
    const failing = new OutboardReader(proof, {
      length: proof.outboard.length,
      read: async () => Promise.reject(new Error('gone')),
    });
    await expect(failing.prove(0, bytes)).rejects.toThrow('gone');
  });

  test('refuses what is not whole groups', async () => {
    const bytes = pattern(50 * KIB);
    const reader = readerOf(proofOf(bytes));
    for (const [from, end] of [
      [1, GROUP_LENGTH],
      [0, 100],
      [0, 49 * KIB],
    ] as const)
      await expect(reader.prove(from, bytes.subarray(from, end))).rejects.toThrow('not whole groups');
  });
});

function flipped(bytes: Uint8Array, bit: number): Uint8Array {
  const wrong = Uint8Array.from(bytes);
  wrong[(bit >> 3) % wrong.length]! ^= 1 << (bit & 7);
  return wrong;
}
