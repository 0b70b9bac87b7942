import * as fc from 'fast-check';
import { Digest } from '../../src/castore/digest.ts';
import type { Name, Node } from '../../src/castore/node.ts';
import { parseName, parseSymlinkTarget } from '../../src/castore/node.ts';
import type { ContentAddress } from '../../src/nix/content-address.ts';
import { CA_TYPES, caAlgorithm } from '../../src/nix/content-address.ts';
import type { HashAlgorithm } from '../../src/nix/hash.ts';
import { HASH_LENGTHS, Hash } from '../../src/nix/hash.ts';
import type { NarInfoValues } from '../../src/nix/narinfo/narinfo.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { StoreError } from '../../src/util/errors.ts';

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const without = (unwanted: readonly number[]) =>
  fc.nat(255).map((byte) => (unwanted.includes(byte) ? 0x61 : byte));

export const names: fc.Arbitrary<Name> = fc
  .array(without([0, 0x2f]), { minLength: 1, maxLength: 12 })
  .map((list) => Buffer.from(list))
  .filter((name) => !['.', '..'].includes(name.toString('latin1')))
  .map(parseName);

export const digests = bytes(32).map(Digest.of);

/** Sizes of every length of a varint; the sums of a few fit in 64 bits. */
const sizes = fc.oneof(fc.bigInt(0n, 300n), fc.bigInt(0n, 1n << 59n));

export const nodes: fc.Arbitrary<Node> = fc.oneof(
  fc.record({ kind: fc.constant('directory' as const), digest: digests, size: sizes }),
  fc.record({ kind: fc.constant('file' as const), digest: digests, size: sizes, executable: fc.boolean() }),
  fc.record({
    kind: fc.constant('symlink' as const),
    target: fc
      .array(without([0]), { minLength: 1, maxLength: 40 })
      .map((list) => parseSymlinkTarget(Buffer.from(list))),
  }),
);

/** Entries of a directory, in any order. */
export const entryLists: fc.Arbitrary<(readonly [Name, Node])[]> = fc.uniqueArray(fc.tuple(names, nodes), {
  selector: ([name]) => Buffer.from(name).toString('latin1'),
  maxLength: 12,
});

export const storePaths = fc
  .tuple(bytes(20), fc.stringMatching(/^[A-Za-z0-9+\-_?=.]{1,20}$/))
  .map(([hash, name]) => StorePath.of(hash, name));

export const hashes = fc
  .constantFrom(...(Object.keys(HASH_LENGTHS) as HashAlgorithm[]))
  .chain((algorithm) => bytes(HASH_LENGTHS[algorithm]).map((digest) => Hash.of(algorithm, digest)));

export const contentAddresses: fc.Arbitrary<ContentAddress> = fc
  .constantFrom(...CA_TYPES)
  .chain((type) => bytes(HASH_LENGTHS[caAlgorithm(type)]).map((digest) => ({ type, digest })));

const keyNames = fc.stringMatching(/^[^:\s]+$/u);

export const pathInfos: fc.Arbitrary<PathInfo> = fc
  .record({
    storePath: storePaths,
    node: nodes,
    references: fc.array(storePaths, { maxLength: 4 }),
    narSize: fc.bigInt(0n, (1n << 64n) - 1n),
    narSha256: bytes(32),
    signatures: fc.array(fc.record({ name: keyNames, data: bytes(64) }), { maxLength: 2 }),
    deriver: fc.option(storePaths, { nil: undefined }),
    ca: fc.option(contentAddresses, { nil: undefined }),
  })
  .map(({ deriver, ca, ...rest }) => ({ ...rest, ...(deriver ? { deriver } : {}), ...(ca ? { ca } : {}) }));

const optional = <T>(values: fc.Arbitrary<T>) => fc.option(values, { nil: undefined });
const oneLine = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
  .map((text) => text.replace(/\n/g, ' '));

export const narInfos: fc.Arbitrary<NarInfoValues> = fc.record({
  storePath: storePaths,
  url: oneLine,
  compression: fc.constantFrom('none', 'xz', 'zstd', 'bzip2'),
  fileHash: optional(hashes),
  fileSize: optional(fc.bigInt(0n, (1n << 64n) - 1n)),
  narSha256: bytes(32),
  narSize: fc.bigInt(1n, (1n << 64n) - 1n),
  references: fc.array(storePaths, { maxLength: 4 }),
  deriver: optional(storePaths),
  system: optional(oneLine),
  signatures: fc.array(fc.record({ name: keyNames, data: bytes(64) }), {
    maxLength: 2,
  }),
  ca: optional(contentAddresses),
});

/** What a parser gives; undefined where it refuses. Any other failure is passed on. */
export function parsedOrRefused<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (error instanceof StoreError && error.code === 'INVALID_ARGUMENT') return undefined;
    throw error;
  }
}

/** Checks a property over generated values: the same ones every time, unless TEST_SEED says otherwise. */
export function forAll<T>(values: fc.Arbitrary<T>, check: (value: T) => void, runs = 300): void {
  const seed = Number(process.env.TEST_SEED ?? 1);
  void fc.assert(fc.property(values, check), { numRuns: runs, seed });
}

/** `forAll` for checks that take their time. */
export async function forAllAsync<T>(
  values: fc.Arbitrary<T>,
  check: (value: T) => Promise<void>,
  runs = 100,
): Promise<void> {
  const seed = Number(process.env.TEST_SEED ?? 1);
  await fc.assert(fc.asyncProperty(values, check), { numRuns: runs, seed });
}
