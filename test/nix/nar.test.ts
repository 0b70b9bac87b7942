import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ParallelSha256 } from '../../src/nix/nar/parallel-sha256.ts';
import { narString, paddingLength } from '../../src/nix/nar/tokens.ts';
import { NarWriter } from '../../src/nix/nar/writer.ts';
import { toHex } from '../../src/util/bytes.ts';
import { forAll } from '../helpers/arbitraries.ts';
import { describeFacts } from '../helpers/facts.ts';
import { narOf } from '../helpers/nar.ts';
import { randomBytes } from '../helpers/random.ts';
import { BufferSink, sha256 } from '../helpers/services.ts';
import { parseTree } from '../helpers/trees.ts';

describeFacts('nar', (all) => {
  test.each(all)('$name', ({ input, expected }) => {
    const bytes = narOf(parseTree(input.tree));
    expect(bytes.length).toBe(expected.nar_size);
    expect(toHex(bytes)).toBe(expected.nar_hex);
  });
});

test('a NAR has the same hash, however long it is and however it comes', async () => {
  // About the lengths from which on it is hashed otherwise.
  for (const length of [0, 1, 65_535, 65_536, 65_537, (4 << 20) - 1, 4 << 20, (8 << 20) + 1]) {
    for (const step of [1000, 65_536, 1 << 20]) {
      const bytes = randomBytes(length, 'hashed');
      const hash = new ParallelSha256();
      for (let at = 0; at < length; at += step) hash.update(bytes.subarray(at, at + step));
      expect(toHex(await hash.digest()), `${length} by ${step}`).toBe(toHex(sha256(bytes)));
      hash.close();
    }
  }
});

describe('the writer of a NAR', () => {
  test('writes the same however the contents are split', () => {
    const contents = randomBytes(200_003, 'nar');
    const whole = narOf({ kind: 'file', contents, executable: false });
    for (const step of [1, 65_535, 65_536, 65_537]) {
      expect(narOf({ kind: 'file', contents, executable: false }, step).equals(whole)).toBe(true);
    }
  });

  test('pads every string to a multiple of eight', () => {
    forAll(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      const text = narString(bytes);
      expect(text.length % 8).toBe(0);
      expect(text.length).toBe(8 + bytes.length + paddingLength(bytes.length));
      expect(text.readBigUInt64LE()).toBe(BigInt(bytes.length));
      expect(toHex(text.subarray(8, 8 + bytes.length))).toBe(toHex(bytes));
      expect(text.subarray(8 + bytes.length).every((byte) => byte === 0)).toBe(true);
    });
  });

  test('counts files beyond 4 GiB', () => {
    const sink = new BufferSink();
    const nar = new NarWriter(sink);
    nar.beginFile(5 * 2 ** 30 + 3, false);
    nar.finish();
    expect(sink.bytes().readBigUInt64LE(nar.size - 8)).toBe(BigInt(5 * 2 ** 30 + 3));
  });

  test.each([2 ** 53, 2 ** 63, 2 ** 64])(
    'refuses a file of %d bytes, which a directory may claim',
    (size) => {
      expect(() => new NarWriter(new BufferSink()).beginFile(size, false)).toThrow('too large for a NAR');
    },
  );
});
