import * as fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { importPath } from '../../src/castore/import/file-system.ts';
import type { Node } from '../../src/castore/node.ts';
import { calculateNar } from '../../src/store/nar/calculate.ts';
import { renderNar as render } from '../../src/store/nar/render.ts';
import { forAllAsync } from '../helpers/arbitraries.ts';
import { all, BufferSink, codeOf, localStore, memoryStore, renderNar, sha256 } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree, symlink, writeTree } from '../helpers/trees.ts';

describe.each(['memory', 'local'])('the NAR of a tree in a %s store', (kind) => {
  const store = kind === 'memory' ? memoryStore() : localStore(`${tempDir()}/store`);
  let root: Node;
  let nar: Buffer;

  beforeAll(async () => {
    const path = `${tempDir()}/tree`;
    const odd = { 'empty\xff\n': directory(), link: symlink('/nowhere'), run: file('#!', true) };
    writeTree(path, directory({ tree: generateTree(150, 7), ...odd, large: file(Buffer.alloc(3 << 20, 7)) }));
    root = await importPath(Buffer.from(path), store);
    await store.directories.flush();
    await store.blobs.flush();
    const sink = new BufferSink();
    await renderNar(store, root, sink);
    nar = sink.bytes();
  });

  test('is rendered whole', async () => {
    expect(Buffer.concat(await all(render(store, root))).equals(nar)).toBe(true);
  });

  test('has the size and hash that are calculated', async () => {
    const { narSize, narSha256 } = await calculateNar(store, root);
    expect(Number(narSize)).toBe(nar.length);
    expect(sha256(nar).equals(narSha256)).toBe(true);
  });

  test('is rendered from anywhere to anywhere', async () => {
    const position = fc.integer({ min: 0, max: nar.length + 100 });
    await forAllAsync(fc.tuple(position, position), async ([start, end]) => {
      const part = Buffer.concat(await all(render(store, root, { start, end })));
      expect(part.equals(nar.subarray(start, end))).toBe(true);
    });
  });
});

test('the NAR of a lone file or link is rendered', async () => {
  const store = memoryStore();
  const contents = Buffer.from('contents');
  const { digest } = await store.blobs.put(contents);
  const nodes: Node[] = [
    { kind: 'file', digest, size: 8n, executable: true },
    { kind: 'symlink', target: Buffer.from('target') as never },
  ];
  for (const node of nodes) {
    const sink = new BufferSink();
    await renderNar(store, node, sink);
    expect(Buffer.concat(await all(render(store, node))).equals(sink.bytes())).toBe(true);
  }
});

test('a NAR of which something is missing, or has another size, cannot be rendered', async () => {
  const store = memoryStore();
  const nowhere = Digest.hash(Buffer.from('nowhere'));
  const { digest } = await store.blobs.put(Buffer.alloc(200_000));
  const bad: Node[] = [
    { kind: 'directory', digest: nowhere, size: 0n },
    { kind: 'file', digest: nowhere, size: 1n, executable: false },
    { kind: 'file', digest, size: 199_999n, executable: false },
    { kind: 'file', digest, size: 200_001n, executable: false },
  ];
  for (const node of bad) expect(await codeOf(all(render(store, node)))).toBe('DATA_LOSS');
});
