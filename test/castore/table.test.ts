import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { open } from '../helpers/local-store.ts';
import { randomBytes } from '../helpers/random.ts';

const KEYS = ['a', 'b', 'c', 'd'].map((name) => Buffer.from(name));
const lengths = fc.oneof(
  fc.integer({ min: 0, max: 100 }),
  fc.integer({ min: 4000, max: 5000 }),
  fc.integer({ min: 32_000, max: 200_000 }),
);

/** Whether bytes are these, whichever property or method of a buffer tells. */
function expectExactly(bytes: Buffer | undefined, wanted: Buffer): void {
  expect(bytes).toBeInstanceOf(Buffer);
  const found = bytes!;
  expect([found.length, found.byteLength, [...found.keys()].length]).toEqual(Array(3).fill(wanted.length));
  expect(Object.hasOwn(found, 'length')).toBe(false);
  const half = wanted.length >> 1;
  for (const part of [found.subarray(half), found.slice(half), Buffer.from(found).subarray(half)]) {
    expect(part.equals(wanted.subarray(half))).toBe(true);
  }
  expect(found.toString('latin1', half)).toBe(wanted.toString('latin1', half));
  expect(Buffer.concat([found]).equals(wanted)).toBe(true);
}

test('a row that is read has just its bytes, whatever was read before it and on whatever Node', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(lengths, { minLength: 1, maxLength: KEYS.length }), async (sizes) => {
      const table = open().store.env.table('rows');
      const values = sizes.map((size, i) => Buffer.from(randomBytes(size, i)));
      for (const [i, value] of values.entries()) await table.put(KEYS[i]!, value);
      const copies = values.map((_, i) => table.get(KEYS[i]!));
      for (const [i, value] of values.entries()) {
        expectExactly(table.view(KEYS[i]!), value);
        expectExactly(copies[i], value);
      }
      const rows = [...table.rows()];
      expect(rows.map(({ key }) => key.toString())).toEqual(values.map((_, i) => KEYS[i]!.toString()));
      for (const [i, { key, value }] of rows.entries()) {
        expectExactly(key, KEYS[i]!);
        expectExactly(value, values[i]!);
      }
    }),
    { numRuns: 30 },
  );
});
