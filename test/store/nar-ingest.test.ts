import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { importPath } from '../../src/castore/import/file-system.ts';
import { nodeToMessage } from '../../src/castore/node-message.ts';
import { ingestNar } from '../../src/store/nar/ingest.ts';
import { renderNar } from '../../src/store/nar/render.ts';
import type { Services } from '../../src/store/services.ts';
import { StoreError } from '../../src/util/errors.ts';
import { forAllAsync } from '../helpers/arbitraries.ts';
import { all, codeOf, localStore, memoryStore, sha256 } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import type { Tree } from '../helpers/trees.ts';
import { directory, file, generateTree, symlink, writeTree } from '../helpers/trees.ts';

/** The root of a tree that is imported, and its NAR. */
async function imported(tree: Tree) {
  const path = `${tempDir()}/tree`;
  writeTree(path, tree);
  const store = memoryStore();
  const node = await importPath(Buffer.from(path), store);
  return { node, nar: Buffer.concat(await all(renderNar(store, node))) };
}

/** A stream in pieces of these lengths, over and over, whose memory is used again for the next. */
async function* pieces(bytes: Uint8Array, lengths: readonly number[]): AsyncGenerator<Uint8Array> {
  const scratch = Buffer.alloc(Math.max(...lengths));
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const part = bytes.subarray(at, at + lengths[i % lengths.length]!);
    at += part.length;
    scratch.fill(0xaa);
    scratch.set(part);
    yield scratch.subarray(0, part.length);
  }
}

const TREES: Record<string, Tree> = {
  'many files': directory({ 'odd \xff\n': symlink('\xff'), tree: generateTree(200, 3) }),
  'an empty directory': directory(),
  'a lone file': file('contents', true),
  'a lone link': symlink('/somewhere'),
  'large files': directory({ a: file(Buffer.alloc(5 << 20, 1)), b: file(Buffer.alloc(131_073, 2)) }),
};

describe.each(Object.entries(TREES))('the NAR of %s', (_, tree) => {
  test('gives what an import of the tree gives, however it is cut', async () => {
    const { node, nar } = await imported(tree);
    const lengths = fc.array(fc.integer({ min: 1, max: 1 << 20 }), { minLength: 1, maxLength: 4 });
    await forAllAsync(
      lengths,
      async (cuts) => {
        // Tiny pieces of a long NAR would take for ever and tell nothing new.
        const least = Math.ceil(nar.length / 20_000);
        const result = await ingestNar(
          pieces(
            nar,
            cuts.map((cut) => Math.max(cut, least)),
          ),
          memoryStore(),
        );
        const name = new Uint8Array();
        expect(nodeToMessage(name, result.node)).toEqual(nodeToMessage(name, node));
        expect(result.narSize).toBe(BigInt(nar.length));
        expect(sha256(nar).equals(result.narSha256)).toBe(true);
      },
      20,
    );
  });
});

test('what was read from a NAR is rendered from a local store again', async () => {
  const { nar } = await imported(TREES['many files']!);
  const store = localStore(`${tempDir()}/store`);
  const { node } = await ingestNar([nar], store);
  await store.directories.flush();
  await store.blobs.flush();
  expect(Buffer.concat(await all(renderNar(store, node))).equals(nar)).toBe(true);
  await store.close();
});

test('a NAR that ends early, or goes on, is refused with the position', async () => {
  const { nar } = await imported(TREES['large files']!);
  const cut = ingestNar([nar.subarray(0, 3 << 20)], memoryStore());
  await expect(cut).rejects.toThrow(/invalid NAR.*byte 3145728/);
  const longer = ingestNar([nar, Buffer.alloc(8)], memoryStore());
  await expect(longer).rejects.toThrow(new RegExp(`byte ${nar.length}`));
});

test('a store that refuses contents ends the reading', async () => {
  const { nar } = await imported(TREES['large files']!);
  const full = new StoreError('NO_SPACE', 'no space');
  const store: Services = memoryStore();
  for (const put of [() => Promise.reject(full), failingMidway(full)]) {
    expect(
      await codeOf(ingestNar(pieces(nar, [65536]), { ...store, blobs: { ...store.blobs, put } as never })),
    ).toBe('NO_SPACE');
  }
});

function failingMidway(error: Error) {
  return async (contents: AsyncIterable<Uint8Array>): Promise<never> => {
    for await (const part of contents) if (part.length > 0) throw error;
    throw new Error('there was nothing');
  };
}

test('a stream that breaks is reported as it broke', async () => {
  const { nar } = await imported(TREES['large files']!);
  const broken = async function* () {
    yield nar.subarray(0, 2 << 20);
    throw new StoreError('UNAVAILABLE', 'connection reset');
  };
  expect(await codeOf(ingestNar(broken(), memoryStore()))).toBe('UNAVAILABLE');
});
