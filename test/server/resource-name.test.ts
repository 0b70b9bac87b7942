import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { parseReadName, parseUploadName } from '../../src/server/grpc/remote/resource-name.ts';
import { StoreError } from '../../src/util/errors.ts';

const KEYWORDS = [
  'blobs',
  'uploads',
  'actions',
  'actionResults',
  'operations',
  'capabilities',
  'compressed-blobs',
];
const segment = fc.stringMatching(/^[A-Za-z0-9._ -]{1,20}$/).filter((text) => !KEYWORDS.includes(text));
const instance = fc.array(segment, { maxLength: 4 });
const digest = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Digest.of(bytes));
const size = fc.integer({ min: 0, max: 999_999_999_999_999 });
const kind = fc.constantFrom('blobs', 'compressed-blobs/zstd');
const HASH = Digest.hash(Buffer.from('contents')).hex;

function codeOf(parse: () => unknown): string {
  try {
    parse();
    return 'OK';
  } catch (error) {
    return error instanceof StoreError ? error.code : String(error);
  }
}

describe('a name of ByteStream', () => {
  test('of a blob is read, in any instance', () => {
    fc.assert(
      fc.property(instance, kind, digest, size, (before, what, blob, length) => {
        const found = parseReadName([...before, what, 'blake3', blob.hex, length].join('/'));
        expect([found.digest.hex, found.size]).toEqual([blob.hex, length]);
        expect(found.isCompressed).toBe(what !== 'blobs');
      }),
    );
  });

  test('of an upload is read, whatever stands behind it', () => {
    const rest = fc.array(fc.oneof(segment, fc.constantFrom('blobs', '')), { maxLength: 3 });
    fc.assert(
      fc.property(instance, segment, kind, digest, size, rest, (before, uuid, what, blob, length, more) => {
        const name = [...before, 'uploads', uuid, what, 'blake3', blob.hex, length, ...more].join('/');
        const found = parseUploadName(name);
        expect([found.uuid, found.digest.hex, found.size]).toEqual([uuid, blob.hex, length]);
      }),
    );
  });

  test('that is anything else is an invalid argument', () => {
    const part = fc.oneof(fc.constantFrom(...KEYWORDS, 'blake3', 'zstd', HASH, '8', '', '-1'), fc.string());
    const anything = fc.array(part, { maxLength: 8 }).map((parts) => parts.join('/'));
    fc.assert(
      fc.property(fc.oneof(anything, fc.string()), (name) => {
        for (const parse of [parseReadName, parseUploadName])
          expect(['OK', 'INVALID_ARGUMENT']).toContain(codeOf(() => parse(name)));
      }),
    );
  });

  test.each([
    ['', 'nothing'],
    [`blobs/${HASH}/8`, 'a digest of SHA-256, which goes without a function'],
    [`blobs/sha256tree/${HASH}/8`, 'another function'],
    [`blobs/blake3/${HASH.toUpperCase()}/8`, 'upper case'],
    [`blobs/blake3/${HASH}`, 'no size'],
    [`blobs/blake3/${HASH}/08`, 'a size with zeros before it'],
    [`blobs/blake3/${HASH}/-8`, 'less than nothing'],
    [`blobs/blake3/${HASH}/9007199254740993`, 'more than can be counted'],
    [`blobs/blake3/${HASH}/8/more`, 'something behind it'],
    [`/blobs/blake3/${HASH}/8`, 'an instance without a name'],
    [`actions/blobs/blake3/${HASH}/8`, 'a keyword before it'],
    [`compressed-blobs/deflate/blake3/${HASH}/8`, 'another compression'],
    [`compressed-blobs/blake3/${HASH}/8`, 'no compression'],
    [`uploads/1/blobs/blake3/${HASH}/8`, 'an upload'],
  ])('%s is refused: %s', (name) => {
    expect(codeOf(() => parseReadName(name))).toBe('INVALID_ARGUMENT');
  });

  test.each([
    `blobs/blake3/${HASH}/8`,
    `uploads/blobs/blake3/${HASH}/8`,
    `uploads//blobs/blake3/${HASH}/8`,
    `uploads/${'1'.repeat(101)}/blobs/blake3/${HASH}/8`,
  ])('%s is no name of an upload', (name) => {
    expect(codeOf(() => parseUploadName(name))).toBe('INVALID_ARGUMENT');
  });
});
