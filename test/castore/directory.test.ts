import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Digest, EMPTY_DIGEST } from '../../src/castore/digest.ts';
import { ClosureValidator } from '../../src/castore/directory/service.ts';
import { Directory } from '../../src/castore/directory.ts';
import type { Name, Node } from '../../src/castore/node.ts';
import { parseName } from '../../src/castore/node.ts';
import { nodeToMessage } from '../../src/castore/node-message.ts';
import { toLong } from '../../src/proto/long.ts';
import { tvix } from '../../src/proto/messages.ts';
import { compareBytes, latin1, toHex } from '../../src/util/bytes.ts';
import { StoreError } from '../../src/util/errors.ts';
import { directoryOf, EMPTY } from '../contract/directories.ts';
import { entryLists, forAll } from '../helpers/arbitraries.ts';
import type { Fact } from '../helpers/facts.ts';
import { describeFacts } from '../helpers/facts.ts';
import { codeOf } from '../helpers/services.ts';

const DirectoryMessage = tvix.castore.v1.Directory;
type Entries = readonly (readonly [Name, Node])[];

/** The encoding of an entry list by protobufjs, which knows nothing of our rules. */
function encodeByLibrary(entries: Entries): Uint8Array {
  const sorted = [...entries].sort(([a], [b]) => compareBytes(a, b));
  const of = (kind: Node['kind']) =>
    sorted.filter(([, node]) => node.kind === kind).map(([name, node]) => nodeToMessage(name, node));
  return DirectoryMessage.encode({
    directories: of('directory').map((message) => {
      const { size, ...rest } = message.directory!;
      return Number(size) === 0 ? rest : { ...rest, size: size! };
    }),
    files: of('file').map((message) => {
      const { size, executable, ...rest } = message.file!;
      return {
        ...rest,
        ...(Number(size) === 0 ? {} : { size: size! }),
        ...(executable ? { executable } : {}),
      };
    }),
    symlinks: of('symlink').map((message) => message.symlink!),
  }).finish();
}

function plain(entries: Iterable<readonly [Name, Node]>) {
  return [...entries].map(([name, node]) => [
    toHex(name),
    node.kind === 'symlink' ? toHex(node.target) : { ...node, digest: node.digest.hex },
  ]);
}

describeFacts('castore_directory', (all) => {
  describe.each(all)('$name', ({ expected }) => {
    test.each(['spec_size', 'rust_2024_2025_size_quirk'])('its %s encoding has its digest', (counting) => {
      const { proto_hex, blake3_hex, size_as_seen_by_parent } = expected[counting];
      const directory = Directory.decode(Buffer.from(proto_hex, 'hex'));
      expect(directory.digest.hex).toBe(blake3_hex);
      expect(directory.acceptsSize(BigInt(size_as_seen_by_parent))).toBe(true);
      expect(toHex(Directory.of(directory.entries()).bytes)).toBe(proto_hex);
    });

    test('what we claim about it is the size in use', () => {
      const { proto_hex, size_as_seen_by_parent } = expected.rust_2024_2025_size_quirk;
      expect(Directory.decode(Buffer.from(proto_hex, 'hex')).size).toBe(BigInt(size_as_seen_by_parent));
    });
  });
});

/** A directory message as the facts write one. */
function messageOf(input: Fact['input']): Uint8Array {
  const name = (entry: Fact['input']) =>
    entry.name_hex === undefined ? Buffer.from(entry.name) : Buffer.from(entry.name_hex, 'hex');
  const content = (entry: Fact['input']) => ({
    name: name(entry),
    digest: Buffer.from(entry.digest_hex ?? '00'.repeat(32), 'hex'),
    size: toLong(BigInt(entry.size)),
  });
  return DirectoryMessage.encode({
    directories: (input.directories ?? []).map(content),
    files: (input.files ?? []).map(content),
    symlinks: (input.symlinks ?? []).map((entry: Fact['input']) => ({
      name: name(entry),
      target: Buffer.from(entry.target),
    })),
  }).finish();
}

describeFacts('directory_size', (all) => {
  test.each(all)('$name', async ({ input, expected }) => {
    const bytes = messageOf(input);
    // The documented counting decides whether a size overflows.
    if (String(expected.size).startsWith('overflow')) {
      expect(await codeOf(() => Directory.decode(bytes))).toBe('INVALID_ARGUMENT');
    } else {
      expect(Directory.decode(bytes).acceptsSize(BigInt(expected.size))).toBe(true);
    }
  });
});

describeFacts('directory_validation', (all) => {
  test.each(all)('$name', async ({ input, expected }) => {
    const bytes = messageOf(input);
    if (expected.result === 'ok') expect(toHex(Directory.decode(bytes).bytes)).toBe(toHex(bytes));
    else expect(await codeOf(() => Directory.decode(bytes))).toBe('INVALID_ARGUMENT');
  });
});

const A = EMPTY;
const B = directoryOf({ a: A });
const C = directoryOf({ a: A, "a'": A });
/** Both hold one directory and claim a size for it that neither counting gives. */
const BROKEN = directoryOf({ foo: A }, 42n);
const NAMED: Record<string, Directory> = { A, B, C, BROKEN, '{foo: A with size+42}': BROKEN };

describeFacts('directory_put_order', (all) => {
  test.each(all)('$name', async ({ input, expected }) => {
    const send = () => {
      const validator = new ClosureValidator();
      for (const name of input.stream as string[]) validator.add(NAMED[name]!);
      return validator.finish().hex;
    };
    if (expected.ok) expect(send()).toBe(NAMED[input.stream.at(-1)]!.digest.hex);
    else expect(await codeOf(send)).toBe('INVALID_ARGUMENT');
  });
});

describe('decoding a directory', () => {
  test('throws nothing but INVALID_ARGUMENT for random bytes', () => {
    forAll(fc.uint8Array({ maxLength: 200 }), onlyRefuses, 3000);
  });

  test('throws nothing but INVALID_ARGUMENT for damaged encodings', () => {
    const change = fc.record({ at: fc.nat(), byte: fc.nat(255), cut: fc.boolean(), drop: fc.boolean() });
    forAll(
      fc.tuple(entryLists, fc.array(change, { minLength: 1, maxLength: 3 })),
      ([entries, changes]) => {
        let bytes = Buffer.from(Directory.of(entries).bytes);
        for (const { at, byte, cut, drop } of changes) {
          if (bytes.length === 0) break;
          const position = at % bytes.length;
          if (cut) bytes = bytes.subarray(0, position);
          else if (drop) bytes = Buffer.concat([bytes.subarray(0, position), bytes.subarray(position + 1)]);
          else bytes[position] = byte;
        }
        onlyRefuses(bytes);
      },
      3000,
    );
  });

  test('gives back the entries in the order of their names, whatever order they came in', () => {
    forAll(entryLists, (entries) => {
      const directory = Directory.of(entries);
      const sorted = [...entries].sort(([a], [b]) => compareBytes(a, b));
      expect(plain(directory.entries())).toEqual(plain(sorted));
      expect(plain(Directory.decode(directory.bytes).entries())).toEqual(plain(sorted));
      for (const [i, [name]] of sorted.entries()) expect(directory.find(name)).toBe(i);
      expect(directory.find(Buffer.from('a name that is not there'))).toBe(-1);
      expect(directory.size).toBe(
        sorted.reduce((sum, [, node]) => sum + 2n + (node.kind === 'directory' ? node.size : 0n), 0n),
      );
    });
  });

  test('agrees with protobufjs byte for byte', () => {
    forAll(entryLists, (entries) => {
      const expected = encodeByLibrary(entries);
      expect(toHex(Directory.of(entries).bytes)).toBe(toHex(expected));
      expect(Directory.decode(expected).digest.hex).toBe(Digest.hash(expected).hex);
    });
  });

  test('gives the canonical digest for unknown fields, odd order, explicit defaults and long numbers', () => {
    forAll(fc.tuple(entryLists, fc.nat()), ([entries, seed]) => {
      const canonical = Directory.of(entries);
      const odd = Directory.decode(encodeOddly(entries, seed));
      expect(odd.digest.hex).toBe(canonical.digest.hex);
      expect(toHex(odd.bytes)).toBe(toHex(canonical.bytes));
    });
  });

  test.each([
    ['group fields', '0b0c'],
    ['a field number of zero', '0000'],
    ['a number of eleven bytes', '20ffffffffffffffffffff01'],
    ['a number above 64 bits', '20ffffffffffffffffff02'],
    ['a length beyond the end', '0a05'],
    ['a length of 2^32', '0a8080808010'],
    ['an entry of the wrong wire type', '0801'],
    ['half a fixed number', '25000000'],
    ['a file without anything', '1200'],
  ])('refuses %s', async (_, hex) => {
    expect(await codeOf(() => Directory.decode(Buffer.from(hex, 'hex')))).toBe('INVALID_ARGUMENT');
  });

  test('refuses a name that two lists share, and lists that are not in order', async () => {
    const digest = EMPTY_DIGEST.bytes;
    const [a, b] = [Buffer.from('a'), Buffer.from('b')];
    const messages = [
      { directories: [{ name: a, digest }], files: [{ name: a, digest }] },
      { files: [{ name: a, digest }], symlinks: [{ name: a, target: b }] },
      {
        files: [
          { name: b, digest },
          { name: a, digest },
        ],
      },
      {
        symlinks: [
          { name: a, target: b },
          { name: a, target: b },
        ],
      },
    ];
    for (const message of messages) {
      const bytes = DirectoryMessage.encode(message).finish();
      expect(await codeOf(() => Directory.decode(bytes))).toBe('INVALID_ARGUMENT');
    }
  });

  test('refuses to make a directory in which a name occurs twice', async () => {
    const entry = [
      parseName(Buffer.from('a')),
      { kind: 'directory', digest: EMPTY_DIGEST, size: 0n },
    ] as const;
    expect(await codeOf(() => Directory.of([entry, entry]))).toBe('INVALID_ARGUMENT');
  });

  test('does not take long for a directory of 100 000 entries', () => {
    const entries = Array.from({ length: 100_000 }, (_, i) => {
      const node: Node = { kind: 'file', digest: EMPTY_DIGEST, size: BigInt(i), executable: i % 2 === 0 };
      return [parseName(Buffer.from(`file-${i}`)), node] as const;
    });
    const directory = Directory.decode(Directory.of(entries).bytes);
    expect(directory.length).toBe(100_000);
    expect(directory.find(Buffer.from('file-77777'))).toBeGreaterThan(0);
    expect(latin1(directory.name(0))).toBe('file-0');
  });
});

function onlyRefuses(bytes: Uint8Array): void {
  try {
    const directory = Directory.decode(bytes);
    // What is accepted is canonical: reading it again changes nothing.
    expect(Directory.decode(directory.bytes).digest.hex).toBe(directory.digest.hex);
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== 'INVALID_ARGUMENT') throw error;
  }
}

/** A valid encoding of the entries that is anything but canonical. */
function encodeOddly(entries: Entries, seed: number): Uint8Array {
  const varint = (value: bigint, extra = 0): number[] => {
    const bytes: number[] = [];
    for (let rest = value; bytes.length === 0 || rest > 0n; rest >>= 7n) bytes.push(Number(rest & 0x7fn));
    for (let i = 0; i < extra && bytes.length < 9; i++) bytes.push(0);
    return bytes.map((byte, i) => (i < bytes.length - 1 ? byte | 0x80 : byte));
  };
  const field = (number: number, bytes: Uint8Array) =>
    Buffer.from([...varint(BigInt(number * 8 + 2)), ...varint(BigInt(bytes.length), seed % 3), ...bytes]);
  const unknown = Buffer.concat([field(9, Buffer.from('?')), Buffer.from([0x78, 0x05])]);
  const parts: Buffer[] = [unknown];
  const sorted = [...entries].sort(([a], [b]) => compareBytes(a, b));
  for (const [number, kind] of [
    [3, 'symlink'],
    [2, 'file'],
    [1, 'directory'],
  ] as const) {
    for (const [name, node] of sorted) {
      if (node.kind !== kind) continue;
      const body = [unknown, field(1, Buffer.from('an earlier name that is overridden'))];
      if (node.kind === 'file') body.push(Buffer.from([0x20, node.executable ? 2 : 0]));
      if (node.kind !== 'symlink') body.push(Buffer.from([0x18, ...varint(node.size, seed % 4)]));
      body.push(field(2, node.kind === 'symlink' ? node.target : node.digest.bytes), field(1, name));
      parts.push(field(number, Buffer.concat(body)));
    }
  }
  return Buffer.concat(parts);
}
