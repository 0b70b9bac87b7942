import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { NarVisitor } from '../../src/nix/nar/reader.ts';
import { NarReader } from '../../src/nix/nar/reader.ts';
import { narString } from '../../src/nix/nar/tokens.ts';
import { NarWriter } from '../../src/nix/nar/writer.ts';
import { forAll, parsedOrRefused } from '../helpers/arbitraries.ts';
import { describeFacts } from '../helpers/facts.ts';
import { narOf, pushNar, rewriteNar, trees } from '../helpers/nar.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { randomBytes } from '../helpers/random.ts';
import { BufferSink, codeOf } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree, parseTree, symlink, writeTree } from '../helpers/trees.ts';

const SAMPLE = directory({
  a: file('contents'),
  b: directory({ run: file('#!/bin/sh\n', true), '\xff\n': symlink('../a') }),
  c: file(),
});

describeFacts('nar', (all) => {
  test.each(all)('$name is read', ({ input, expected }) => {
    const nar = Buffer.from(expected.nar_hex, 'hex');
    expect(rewriteNar(nar).equals(nar)).toBe(true);
    expect(nar.equals(narOf(parseTree(input.tree)))).toBe(true);
  });
});

describeFacts('nar_malformed', (all) => {
  test.each(all)('$name is refused', async ({ input }) => {
    expect(await codeOf(() => rewriteNar(Buffer.from(input.nar_hex, 'hex')))).toBe('INVALID_ARGUMENT');
  });
});

describe('the reader of a NAR', () => {
  test('tells the tree that was written, however the bytes are cut', () => {
    forAll(
      fc.tuple(trees, fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1 })),
      ([tree, lengths]) => {
        const nar = narOf(tree);
        expect(rewriteNar(nar, ...lengths).equals(nar)).toBe(true);
        expect(rewriteNar(nar, 1).equals(nar)).toBe(true);
      },
    );
  });

  test('takes a damaged NAR only if it is the NAR of another tree', () => {
    const damage = fc.tuple(trees, fc.nat(), fc.nat(255), fc.boolean());
    forAll(
      damage,
      ([tree, at, byte, cut]) => {
        const nar = narOf(tree);
        nar[at % nar.length] = byte;
        const damaged = cut ? nar.subarray(0, at % nar.length) : nar;
        const rewritten = parsedOrRefused(() => rewriteNar(damaged, 50));
        expect(rewritten?.equals(damaged) ?? true).toBe(true);
      },
      3000,
    );
  });

  test('refuses a NAR that ends early, wherever, and one that goes on', async () => {
    const nar = narOf(SAMPLE);
    for (let length = 0; length < nar.length; length++) {
      expect(() => rewriteNar(nar.subarray(0, length))).toThrow(`it ends at byte ${length}, before`);
    }
    for (const more of [Buffer.alloc(1), Buffer.alloc(8), narString(Buffer.from(')'))]) {
      const longer = Buffer.concat([nar, more]);
      expect(() => rewriteNar(longer)).toThrow(`at byte ${nar.length}: the NAR is over`);
      expect(() => rewriteNar(longer, nar.length)).toThrow(`at byte ${nar.length}: the NAR is over`);
    }
  });

  test('reads any bytes as something or refuses them', () => {
    const words = [
      'nix-archive-1',
      '(',
      ')',
      'type',
      'regular',
      'contents',
      'directory',
      'entry',
      'name',
      'node',
    ];
    const strings = fc.constantFrom(...words, 'symlink', 'target', 'executable', '', 'x').map(wire);
    forAll(
      fc.array(fc.oneof({ arbitrary: strings, weight: 9 }, fc.uint8Array({ maxLength: 9 }))),
      (pieces) => {
        const nar = Buffer.concat([open, ...pieces]);
        const rewritten = parsedOrRefused(() => rewriteNar(nar));
        expect(rewritten?.equals(nar) ?? true).toBe(true);
      },
      2000,
    );
  });

  test('hands contents on as pieces of what was pushed, whole where they are whole', () => {
    const [small, large] = [randomBytes(5000, 'small'), randomBytes(200_000, 'large')];
    const nar = narOf(directory({ large: file(large), small: file(small) }));
    const parts: Uint8Array[] = [];
    const offsets: number[] = [];
    const reader = new NarReader({
      ...NOTHING,
      beginFile: (_size, _executable, offset) => offsets.push(offset),
      contents: (bytes) => parts.push(bytes),
    });
    reader.push(nar);
    expect(reader.end()).toBe(nar.length);
    expect(parts.map((part) => part.length)).toEqual([large.length, small.length]);
    expect(parts.every((part) => part.buffer === nar.buffer)).toBe(true);
    expect(offsets).toEqual([nar.indexOf(large), nar.indexOf(small)]);
  });

  test('tells of a file before its contents are there', () => {
    const nar = narOf(file(randomBytes(100)));
    const seen: (string | number)[] = [];
    const visitor = {
      ...NOTHING,
      beginFile: (size: number) => seen.push('file', size),
      contents: (bytes: Uint8Array) => seen.push(bytes.length),
    };
    expect(() => pushNar(nar.subarray(0, nar.length - 100), visitor, 60)).toThrow('it ends at byte');
    expect(seen.slice(0, 2)).toEqual(['file', 100]);
    expect(seen.length).toBeGreaterThan(2);
  });

  test('reads directories in directories up to a depth, and no more', async () => {
    const nested = (depth: number) => {
      const sink = new BufferSink();
      const nar = new NarWriter(sink);
      for (let i = 0; i < depth; i++) {
        nar.beginDirectory();
        if (i < depth - 1) nar.beginEntry(Buffer.from('d'));
      }
      for (let i = 0; i < depth; i++) {
        nar.endDirectory();
        if (i < depth - 1) nar.endEntry();
      }
      nar.finish();
      return sink.bytes();
    };
    expect(rewriteNar(nested(1024)).equals(nested(1024))).toBe(true);
    expect(() => rewriteNar(nested(1025))).toThrow('more than 1024 directories in each other');
    expect(() => rewriteNar(nested(100_000))).toThrow('more than 1024 directories in each other');
  });
});

const wire = (text: string) => narString(Buffer.from(text, 'latin1'));
const open = Buffer.concat(['nix-archive-1', '(', 'type'].map(wire));

const NOTHING: NarVisitor = {
  beginDirectory() {},
  beginEntry() {},
  endEntry() {},
  endDirectory() {},
  beginFile() {},
  contents() {},
  endFile() {},
  symlink() {},
};

describeNix('NARs of a real Nix', () => {
  test('are read and are what we write', async () => {
    const nix = new NixUser();
    const dir = join(tempDir(), 'tree');
    mkdirSync(dir);
    const tree = directory({
      generated: generateTree(200, 5),
      sample: SAMPLE,
      ['x'.repeat(255)]: file('long'),
    });
    writeTree(join(dir, 'tree'), tree);
    const nar = await nix.run('nix-store', ['--dump', join(dir, 'tree')]);
    expect(nar.equals(narOf(tree))).toBe(true);
    expect(rewriteNar(nar, 65_536).equals(nar)).toBe(true);
  });
});
