import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { narString, paddingLength } from '../../src/nix/nar/tokens.ts';
import { NarWriter } from '../../src/nix/nar/writer.ts';
import { toHex } from '../../src/util/bytes.ts';
import { forAll } from '../helpers/arbitraries.ts';
import { describeFacts } from '../helpers/facts.ts';
import { randomBytes } from '../helpers/random.ts';
import { BufferSink } from '../helpers/services.ts';
import type { Tree } from '../helpers/trees.ts';
import { parseTree } from '../helpers/trees.ts';

/** The NAR of a tree, its files handed over in parts of `step` bytes. */
function narOf(tree: Tree, step = 1 << 20): Buffer {
  const sink = new BufferSink();
  const nar = new NarWriter(sink);
  const visit = (node: Tree): void => {
    if (node.kind === 'symlink') {
      nar.symlink(Buffer.from(node.target, 'latin1'));
    } else if (node.kind === 'file') {
      nar.beginFile(node.contents.length, node.executable);
      for (let at = 0; at < node.contents.length; at += step) {
        nar.contents(node.contents.subarray(at, at + step));
      }
      nar.endFile();
    } else {
      nar.beginDirectory();
      for (const name of Object.keys(node.entries).sort()) {
        nar.beginEntry(Buffer.from(name, 'latin1'));
        visit(node.entries[name]!);
        nar.endEntry();
      }
      nar.endDirectory();
    }
  };
  visit(tree);
  nar.finish();
  expect(nar.size).toBe(sink.bytes().length);
  return sink.bytes();
}

describeFacts('nar', (all) => {
  test.each(all)('$name', ({ input, expected }) => {
    const bytes = narOf(parseTree(input.tree));
    expect(bytes.length).toBe(expected.nar_size);
    expect(toHex(bytes)).toBe(expected.nar_hex);
  });
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
});
