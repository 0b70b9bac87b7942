import type { Digest } from '../../castore/digest.ts';
import type { Directory } from '../../castore/directory.ts';
import type { FileNode, Node } from '../../castore/node.ts';
import { mapAhead } from '../../util/async/iterables.ts';
import { Turns } from '../../util/async/turns.ts';
import { isDamage } from '../../util/errors.ts';
import type { Store } from '../services.ts';

/** A store without its path infos; a local one needs no service for its blobs. */
type Contents = Pick<Store, 'local' | 'bucket' | 'directories'> & Partial<Pick<Store, 'blobs'>>;

/** Questions to a store at once. */
const AT_ONCE = 64;

/**
 * Whether all of a tree is where puts into the store go. In a local one it stays there while the store is open, so that what
 * refers to the tree can be put (the design's "deleting safely"): due whenever something is relied on that an
 * earlier process may have put.
 */
export async function keepTree(store: Contents, root: Node, signal?: AbortSignal): Promise<boolean> {
  const { local } = store;
  if (store.bucket) return store.bucket.keep(root, signal);
  local?.env.refresh();
  if (root.kind === 'symlink') return true;
  if (root.kind === 'file') return keepBlob(store, root, signal);
  const turns = new Turns();
  const directories: Digest[] = [];
  try {
    const { directories: all } = store;
    for await (const directory of (all.target ?? all).getRecursive(root.digest, signal)) {
      directories.push(directory.digest);
      if (!(await keepBlobs(store, directory, signal))) return false;
      if (turns.isDue) await turns.take();
    }
  } catch (error) {
    if (isDamage(error)) return false;
    throw error;
  }
  if (directories.length === 0) return false;
  // Children before parents: the collector goes the other way.
  for (const { bytes } of local ? directories.reverse() : []) {
    if (!(await local!.writer.has(local!.env.directories, bytes))) return false;
  }
  return true;
}

/** The blobs of the files in a directory. */
async function keepBlobs(store: Contents, directory: Directory, signal?: AbortSignal): Promise<boolean> {
  const files = [...directory.entries()].map(([, node]) => node).filter((node) => node.kind === 'file');
  const keep = (file: FileNode) => keepBlob(store, file, signal);
  for await (const kept of mapAhead(files, AT_ONCE, keep)) if (!kept) return false;
  return true;
}

async function keepBlob(
  { local, blobs }: Contents,
  { digest, size }: FileNode,
  signal?: AbortSignal,
): Promise<boolean> {
  if (!local) return blobs!.has(digest, { size: Number(size), signal });
  try {
    return await local.writer.hasBlob(digest.bytes, local.reader.manifest(digest.bytes));
  } catch (error) {
    if (isDamage(error)) return false;
    throw error;
  }
}
