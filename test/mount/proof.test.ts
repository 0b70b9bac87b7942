import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { GroupSet, groupsOver } from '../../src/castore/bao/group-set.ts';
import { OutboardMaker } from '../../src/castore/bao/maker.ts';
import { GROUP_LENGTH } from '../../src/castore/bao/shape.ts';
import { heldOutboard } from '../../src/castore/bao/whole.ts';
import { Digest } from '../../src/castore/digest.ts';
import { ChunkList } from '../../src/mount/fetch/chunk-list.ts';
import type { ReadChunk } from '../../src/mount/fetch/proof.ts';
import { Proof } from '../../src/mount/fetch/proof.ts';
import { forAllAsync } from '../helpers/arbitraries.ts';
import { randomBytes } from '../helpers/random.ts';

const SIZE = 300_000;
const right = randomBytes(SIZE, 'right');
const { digest, outboard } = new OutboardMaker().update(right).finish();

/** Chunks cut anywhere, of which some are others', and some are not there; and reads. */
const cases = fc.record({
  cuts: fc.uniqueArray(fc.integer({ min: 1, max: SIZE - 1 }), { maxLength: 12 }),
  lies: fc.array(fc.nat(12), { maxLength: 2 }),
  absent: fc.array(fc.nat(12), { maxLength: 3 }),
  reads: fc.array(fc.record({ offset: fc.nat(SIZE - 1), length: fc.integer({ min: 1, max: 100_000 }) }), {
    minLength: 1,
    maxLength: 5,
  }),
});

test('whatever chunks are named, only what is right is proven', async () => {
  await forAllAsync(
    cases,
    async ({ cuts, lies, absent, reads }) => {
      const places = [0, ...cuts.sort((a, b) => a - b), SIZE];
      const parts = places.slice(1).map((end, i) => {
        const part = Uint8Array.from(right.subarray(places[i]!, end));
        if (lies.includes(i)) part[part.length >> 1]! ^= 1;
        return part;
      });
      const served = Buffer.concat(parts);
      const byDigest = new Map(parts.map((part) => [Digest.hash(part).hex, part]));
      const chunks = parts.map((part) => ({ digest: Digest.hash(part), size: part.length }));
      const isThere = (one: { digest: Digest }) => !absent.some((i) => chunks[i]?.digest.equals(one.digest));
      const list = new ChunkList(chunks, true, isThere);
      const read: ReadChunk = (chunk, out, at) => {
        if (isThere(chunk)) out.set(byDigest.get(chunk.digest.hex)!, at);
        return isThere(chunk);
      };
      const proof = new Proof({ digest, size: SIZE }, heldOutboard(outboard));
      const proven = new GroupSet();
      for (const { offset, length } of reads) {
        const wanted = { offset, length: Math.min(length, SIZE - offset) };
        const part = proof.aligned(wanted.offset, wanted.length);
        const range = list.overlapping(part.offset, part.length);
        const covered = { from: list.start(range.first), end: list.start(range.end) };
        const isRight = served
          .subarray(covered.from, covered.end)
          .equals(right.subarray(covered.from, covered.end));
        const areThere = chunks.slice(range.first, range.end).every(isThere);
        const groups = await proof.prove(list, range, read).catch((error) => {
          expect(error.code).toBe('DATA_LOSS');
        });
        if (groups) proven.add(groups);
        if (areThere && isRight) expect(proof.has(wanted.offset, wanted.length)).toBe(true);
      }
      for (let at = 0; at < SIZE; at += GROUP_LENGTH) {
        const length = Math.min(GROUP_LENGTH, SIZE - at);
        if (proof.has(at, length) || proven.hasAll(groupsOver(at, length)))
          expect(served.subarray(at, at + length).equals(right.subarray(at, at + length))).toBe(true);
      }
    },
    300,
  );
});
