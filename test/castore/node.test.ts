import { describe, expect, test } from 'vitest';
import { Digest, DigestHasher, EMPTY_DIGEST } from '../../src/castore/digest.ts';
import { parseName, parseSymlinkTarget } from '../../src/castore/node.ts';
import { nodeFromMessage, nodeToMessage } from '../../src/castore/node-message.ts';
import { tvix } from '../../src/proto/messages.ts';
import { digests, forAll, nodes } from '../helpers/arbitraries.ts';
import { describeFacts } from '../helpers/facts.ts';
import { codeOf } from '../helpers/services.ts';

const NO_BYTES = new Uint8Array();

describeFacts('blake3', (all) => {
  test.each(all.filter((fact) => fact.input.bytes_hex))('$name', ({ input, expected }) => {
    const digest = Digest.hash(Buffer.from(input.bytes_hex, 'hex'));
    expect(digest.hex).toBe(expected.blake3_hex);
    expect(digest.toString()).toBe(expected.snix_display);
    expect(Digest.parse(expected.snix_display)).toEqual(Digest.parse(expected.blake3_hex));
    expect(Digest.parse(expected.tvix_2024_display).equals(digest)).toBe(true);
  });

  test('blob_b, and a digest made piece by piece', () => {
    const part = Buffer.from(Array.from({ length: 255 }, (_, i) => i));
    const hasher = new DigestHasher();
    for (let i = 0; i < 4096; i++) hasher.update(part);
    const expected = all.find((fact) => fact.name === 'blob_b')?.expected.blake3_hex;
    expect(hasher.digest().hex).toBe(expected);
  });

  test('chunked_blob_1', () => {
    const bytes = Buffer.from(Array.from({ length: 16 }, (_, i) => i));
    const expected = all.find((fact) => fact.name === 'chunked_blob_1')?.expected.blake3_hex;
    expect(Digest.hash(bytes).hex).toBe(expected);
  });
});

describeFacts('path_component', (all) => {
  test.each(all)('$name', async ({ input, expected }) => {
    const bytes = Buffer.from(input.bytes_hex, 'hex');
    if (expected.result === 'ok') expect(parseName(bytes)).toBe(bytes);
    else expect(await codeOf(() => parseName(bytes))).toBe('INVALID_ARGUMENT');
  });
});

describeFacts('symlink_target', (all) => {
  test.each(all)('$name', async ({ input, expected }) => {
    const bytes = Buffer.from(input.bytes_hex, 'hex');
    if (expected.result === 'ok') expect(parseSymlinkTarget(bytes)).toBe(bytes);
    else expect(await codeOf(() => parseSymlinkTarget(bytes))).toBe('INVALID_ARGUMENT');
  });
});

describeFacts('root_node_url', (all) => {
  test.each(all)('the encoding of node $name is read and written', ({ input }) => {
    const bytes = Buffer.from(input.anonymous_node_proto_hex, 'hex');
    const { name, node } = nodeFromMessage(tvix.castore.v1.Node.decode(bytes));
    expect(name.length).toBe(0);
    expect(Buffer.from(tvix.castore.v1.Node.encode(nodeToMessage(NO_BYTES, node)).finish())).toEqual(bytes);
  });
});

describe('a name', () => {
  test.each(['', '.', '..', 'a/b', '/', 'a\0', '\0', 'x'.repeat(256)])('cannot be %j', async (name) => {
    expect(await codeOf(() => parseName(Buffer.from(name)))).toBe('INVALID_ARGUMENT');
  });

  test.each(['...', '.a', '..a', ' ', '\n', '\\', 'x'.repeat(255)])('can be %j', (name) => {
    expect(Buffer.from(parseName(Buffer.from(name))).toString()).toBe(name);
  });

  test('need not be UTF-8', () => {
    expect(parseName(Buffer.from([0xff, 0xfe, 0x80])).length).toBe(3);
  });
});

describe('the target of a link', () => {
  test('cannot be empty, hold a NUL or be longer than 4095 bytes', async () => {
    for (const target of ['', 'a\0b', '\0', 'x'.repeat(4096)]) {
      expect(await codeOf(() => parseSymlinkTarget(Buffer.from(target)))).toBe('INVALID_ARGUMENT');
    }
  });
});

describe('a digest', () => {
  test('is read back from what it prints', () => {
    forAll(digests, (digest) => {
      expect(Digest.parse(digest.toString()).hex).toBe(digest.hex);
      expect(Digest.parse(digest.hex).equals(digest)).toBe(true);
    });
  });

  test.each(['', 'blake3-', 'b3:AAAA', 'AF1349B9', 'blake3-!', 'sha256-af13', `${'0'.repeat(63)}g`])(
    'is not %j',
    async (text) => {
      expect(await codeOf(() => Digest.parse(text))).toBe('INVALID_ARGUMENT');
    },
  );

  test('has 32 bytes', async () => {
    for (const length of [0, 31, 33]) {
      expect(await codeOf(() => Digest.of(new Uint8Array(length)))).toBe('INVALID_ARGUMENT');
    }
  });

  test('of nothing is the empty digest', () => {
    expect(new DigestHasher().digest().equals(EMPTY_DIGEST)).toBe(true);
    expect(EMPTY_DIGEST.equals(Digest.hash(Buffer.from('x')))).toBe(false);
  });
});

describe('a node on the wire', () => {
  test('is read back as it was written', () => {
    forAll(nodes, (node) => {
      const bytes = tvix.castore.v1.Node.encode(nodeToMessage(Buffer.from('name'), node)).finish();
      const back = nodeFromMessage(tvix.castore.v1.Node.decode(bytes));
      expect(Buffer.from(back.name).toString()).toBe('name');
      expect(plain(back.node)).toEqual(plain(node));
    });
  });

  test.each([
    ['nothing', {}],
    ['a short digest', { directory: { digest: new Uint8Array(31) } }],
    ['no digest', { file: { size: 3 } }],
    ['a link to nowhere', { symlink: { name: Buffer.from('a') } }],
  ])('cannot be %s', async (_, message) => {
    expect(await codeOf(() => nodeFromMessage(message))).toBe('INVALID_ARGUMENT');
  });

  test('cannot be absent', async () => {
    expect(await codeOf(() => nodeFromMessage(undefined))).toBe('INVALID_ARGUMENT');
  });
});

function plain(node: Parameters<typeof nodeToMessage>[1]) {
  return node.kind === 'symlink'
    ? { kind: node.kind, target: Buffer.from(node.target).toString('hex') }
    : { ...node, digest: node.digest.hex };
}
