import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { alongChunks } from '../../src/castore/blob/along-chunks.ts';
import { Digest } from '../../src/castore/digest.ts';
import { forAllAsync } from '../helpers/arbitraries.ts';
import { codeOf } from '../helpers/services.ts';

const cut = async (parts: readonly Uint8Array[], sizes: readonly number[]) => {
  const arrive = async function* () {
    yield* parts;
  };
  const chunks = sizes.map((size) => ({ digest: Digest.hash(Buffer.of(size)), size }));
  const pieces: Uint8Array[] = [];
  for await (const piece of alongChunks(arrive(), chunks)) pieces.push(piece);
  return pieces;
};
const parts = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 12 });
const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 12 });
/** Half of the time sizes that fit. */
const cases = fc.tuple(parts, sizes, fc.boolean()).map(([arriving, wanted, fitting]) => ({
  arriving,
  wanted: fitting ? cutToFit(arriving, wanted) : wanted,
}));

function cutToFit(arriving: readonly Uint8Array[], wanted: readonly number[]): number[] {
  let rest = arriving.reduce((sum, part) => sum + part.length, 0);
  const fitting: number[] = [];
  for (const size of wanted) {
    if (size >= rest) break;
    fitting.push(size);
    rest -= size;
  }
  return rest > 0 ? [...fitting, rest] : fitting;
}

describe('contents along a chunk list', () => {
  test('are the same bytes in pieces of its sizes, or an error', async () => {
    await forAllAsync(cases, async ({ arriving, wanted }) => {
      const whole = Buffer.concat(arriving);
      const total = wanted.reduce((sum, size) => sum + size, 0);
      if (total !== whole.length) {
        expect(await codeOf(cut(arriving, wanted))).toBe('DATA_LOSS');
        return;
      }
      const pieces = await cut(arriving, wanted);
      expect(pieces.map((piece) => piece.length)).toEqual(wanted);
      expect(Buffer.concat(pieces).equals(whole)).toBe(true);
    });
  });
});
