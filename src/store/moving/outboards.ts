import { outboardLength } from '../../castore/bao/shape.ts';
import type { FileNode, Node } from '../../castore/node.ts';
import { filesOf } from '../../castore/walk.ts';
import { eachOf } from '../../util/async/each-of.ts';
import { StoreError } from '../../util/errors.ts';
import type { Services } from '../services.ts';

const MADE_AT_ONCE = 2;

/** Has the outboards of all files of a tree made that have none yet. Throws UNIMPLEMENTED for a store that keeps none. */
export async function makeOutboards(
  { blobs, directories }: Services,
  root: Node,
  signal?: AbortSignal,
): Promise<void> {
  if (!blobs.outboard) throw new StoreError('UNIMPLEMENTED', 'this store keeps no outboards');
  const files = new Map<string, FileNode>();
  const add = (file: FileNode) => {
    if (outboardLength(Number(file.size)) > 0) files.set(file.digest.hex, file);
  };
  if (root.kind === 'file') add(root);
  if (root.kind === 'directory')
    for await (const directory of directories.getRecursive(root.digest, signal))
      for (const file of filesOf(directory)) add(file);
  await eachOf([...files.values()], MADE_AT_ONCE, signal, async ({ digest }, abort) => {
    await blobs.outboard!(digest, { make: true, signal: abort });
  });
}
