import { describe, expect, test } from 'vitest';
import { narString } from '../../src/nix/nar/tokens.ts';
import { NarWriter } from '../../src/nix/nar/writer.ts';
import { pushNar, rewriteNar } from '../helpers/nar.ts';
import { BufferSink, codeOf } from '../helpers/services.ts';

/** Strings of a NAR; other bytes stand as they are. */
function nar(...parts: (string | Uint8Array)[]): Buffer {
  return Buffer.concat(
    parts.map((part) => (typeof part === 'string' ? narString(Buffer.from(part, 'latin1')) : part)),
  );
}

function length(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

const ROOT = ['nix-archive-1', '('];
const FILE = ['(', 'type', 'regular', 'contents', 'x', ')'];
const LINK = ['(', 'type', 'symlink', 'target', 'x', ')'];
const REGULAR = [...ROOT, 'type', 'regular'];
const DIRECTORY = [...ROOT, 'type', 'directory'];
const SYMLINK = [...ROOT, 'type', 'symlink', 'target'];
const entry = (name: string, node = FILE) => ['entry', '(', 'name', name, 'node', ...node, ')'];
/** Byte at which the part of this number starts. */
const start = (parts: (string | Uint8Array)[], index: number) => nar(...parts.slice(0, index)).length;

const MAX = 2n ** 64n - 1n;
const badPadding = (text: string) => {
  const bytes = nar(text);
  bytes[bytes.length - 1] = 1;
  return bytes;
};

/** The fault, the NAR, the part in which it goes wrong (negative: from the end), and what the error says. */
const HOSTILE: [string, (string | Uint8Array)[], number, string][] = [
  ['another magic', ['nix-archive-2', '('], 0, 'want "nix-archive-1", found "nix-archive-2"'],
  ['an unknown kind of node', [...ROOT, 'type', 'fifo'], 3, 'found "fifo"'],
  ['no kind of node', [...ROOT, ')'], 2, 'want "type", found ")"'],
  ['a kind that is named twice', [...REGULAR, 'type', 'regular'], 4, 'want "executable" or "contents"'],
  ['a file without contents', [...REGULAR, ')'], 4, 'want "executable" or "contents", found ")"'],
  ['contents twice', [...REGULAR, 'contents', 'x', 'contents', 'x', ')'], 6, 'want ")", found "contents"'],
  [
    'contents before executable',
    [...REGULAR, 'contents', 'x', 'executable', '', ')'],
    6,
    'found "executable"',
  ],
  ['executable twice', [...REGULAR, 'executable', '', 'executable', '', 'contents'], 6, 'want "contents"'],
  ['executable with a value', [...REGULAR, 'executable', 'x', 'contents'], 5, 'want "", found "x"'],
  ['an executable directory', [...DIRECTORY, 'executable', ''], 4, 'want "entry" or ")"'],
  ['a symlink without target', [...ROOT, 'type', 'symlink', ')'], 4, 'want "target"'],
  ['two targets', [...SYMLINK, 'x', 'target', 'y', ')'], 6, 'want ")", found "target"'],
  ['an empty target', [...SYMLINK, '', ')'], 5, 'has 0 bytes, want 1 to 4095'],
  ['a target with NUL', [...SYMLINK, 'a\0b', ')'], 5, 'contains a NUL'],
  ['a target of 4096 bytes', [...SYMLINK, 'x'.repeat(4096), ')'], 5, 'has 4096 bytes'],
  [
    'an entry without name',
    [...DIRECTORY, 'entry', '(', 'node', ...FILE, ')'],
    6,
    'want "name", found "node"',
  ],
  ['an entry without node', [...DIRECTORY, 'entry', '(', 'name', 'a', ')'], 8, 'want "node", found ")"'],
  ['a name after the node', [...DIRECTORY, ...entry('a').slice(0, -1), 'name', 'b', ')'], -3, 'want ")"'],
  ['two nodes in an entry', [...DIRECTORY, ...entry('a').slice(0, -1), 'node', ...FILE, ')'], 15, 'want ")"'],
  ['an empty name', [...DIRECTORY, ...entry('')], 7, 'has 0 bytes, want 1 to 255'],
  ['the name .', [...DIRECTORY, ...entry('.')], 7, '"." cannot be the name'],
  ['the name ..', [...DIRECTORY, ...entry('..')], 7, '".." cannot be the name'],
  ['a slash in a name', [...DIRECTORY, ...entry('a/b')], 7, '"a/b" cannot be the name'],
  ['a NUL in a name', [...DIRECTORY, ...entry('a\0b')], 7, '"a\\x00b" cannot be the name'],
  ['a name of 256 bytes', [...DIRECTORY, ...entry('x'.repeat(256))], 7, 'has 256 bytes'],
  ['names out of order', [...DIRECTORY, ...entry('b'), ...entry('a')], 19, '"a" must not come after "b"'],
  [
    'a name after one that it begins',
    [...DIRECTORY, ...entry('ab'), ...entry('a')],
    19,
    'must not come after',
  ],
  [
    'names in the order of letters',
    [...DIRECTORY, ...entry('\xe4'), ...entry('z')],
    19,
    'must not come after',
  ],
  ['a name twice', [...DIRECTORY, ...entry('a'), ...entry('a')], 19, '"a" is there twice'],
  [
    'a directory with the name of a symlink before it',
    [...DIRECTORY, ...entry('a', LINK), ...entry('a', ['(', 'type', 'directory', ')'])],
    19,
    '"a" is there twice',
  ],
  [
    'a string of 2^33 bytes as a word',
    [...ROOT, length(1n << 33n), 'type'],
    2,
    'a string of 8589934592 bytes',
  ],
  ['a string of 2^64-1 bytes as a word', [...ROOT, length(MAX), 'type'], 2, `a string of ${MAX} bytes`],
  ['a name of 2^64-1 bytes', [...DIRECTORY, 'entry', '(', 'name', length(MAX)], 7, `has ${MAX} bytes`],
  ['a target of 2^40 bytes', [...SYMLINK, length(1n << 40n)], 5, 'has 1099511627776 bytes'],
  [
    'a file of 2^64-1 bytes',
    [...REGULAR, 'contents', length(MAX), 'x'],
    5,
    `a file of ${MAX} bytes cannot be`,
  ],
];

describe('a NAR', () => {
  test.each(HOSTILE)('with %s is refused', async (_, parts, index, message) => {
    const bytes = nar(...parts);
    const at = start(parts, index < 0 ? parts.length + index : index);
    for (const step of [bytes.length, 1, 7]) {
      expect(await codeOf(() => rewriteNar(bytes, step))).toBe('INVALID_ARGUMENT');
      expect(() => rewriteNar(bytes, step)).toThrow(`at byte ${at}: `);
    }
    expect(() => rewriteNar(bytes)).toThrow(message);
  });

  test.each([
    ['a word', [...ROOT, badPadding('type')]],
    ['a name', [...DIRECTORY, 'entry', '(', 'name', badPadding('abc')]],
    ['a target', [...SYMLINK, badPadding('abc')]],
    ['contents', [...REGULAR, 'contents', badPadding('abc')]],
  ])('with padding behind %s that is not zero is refused', (_, parts) => {
    const bytes = nar(...parts);
    expect(() => rewriteNar(bytes)).toThrow(`at byte ${bytes.length - 1}: the padding is not zero`);
    expect(() => rewriteNar(bytes, 1)).toThrow(`at byte ${bytes.length - 1}: the padding is not zero`);
  });

  test('with a file of 2^40 bytes of which few are there is refused, and takes no memory', () => {
    const bytes = nar(...REGULAR, 'contents', length(1n << 40n), 'few');
    expect(() => rewriteNar(bytes)).toThrow(
      `it ends at byte ${bytes.length}, before the end of the contents`,
    );
  });

  test('can have odd names and targets', () => {
    const names = ['\n', '...', '.a', 'a~nix~case~hack~1', 'x'.repeat(255), '\x80\xff', '\xc3'];
    const bytes = nar(...DIRECTORY, ...names.flatMap((name) => entry(name, LINK)), ')');
    expect(rewriteNar(bytes).equals(bytes)).toBe(true);
    for (const target of ['x'.repeat(4095), '/', '../..', '/nix/store', '\xff\n']) {
      const link = nar(...SYMLINK, target, ')');
      expect(rewriteNar(link, 9).equals(link)).toBe(true);
    }
  });

  test('is told up to where it goes wrong, and no further', () => {
    const sink = new BufferSink();
    const writer = new NarWriter(sink);
    const parts = [...DIRECTORY, ...entry('b'), ...entry('a')];
    expect(() => pushNar(nar(...parts), writer)).toThrow('must not come after');
    writer.finish();
    expect(sink.bytes().equals(nar(...DIRECTORY, ...entry('b')))).toBe(true);
  });
});
