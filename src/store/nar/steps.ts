import type { Directory } from '../../castore/directory.ts';
import type { FileNode, Name, Node, SymlinkTarget } from '../../castore/node.ts';
import { damaged } from '../../util/errors.ts';
import { MAX_TREE_DEPTH } from '../../util/tree-depth.ts';
import type { Services } from '../services.ts';

/** The pieces of a NAR, in its order. */
export type NarStep =
  | { readonly kind: 'beginDirectory' | 'endDirectory' | 'endEntry' }
  | { readonly kind: 'entry'; readonly name: Name }
  | { readonly kind: 'file'; readonly node: FileNode }
  | { readonly kind: 'symlink'; readonly target: SymlinkTarget };

const BEGIN_DIRECTORY: NarStep = { kind: 'beginDirectory' };
const END_DIRECTORY: NarStep = { kind: 'endDirectory' };
const END_ENTRY: NarStep = { kind: 'endEntry' };

/** Steps that come at once, at the most: one by one each would have to be waited for, and those of many readers outlive V8's youth. */
const BATCH = 16;

/**
 * Walks a tree in the store depth first, in the order of names. Holds one directory a level. Throws DATA_LOSS
 * when a directory is missing.
 */
export async function* narSteps(
  { directories }: Pick<Services, 'directories'>,
  root: Node,
  signal?: AbortSignal,
): AsyncGenerator<NarStep[]> {
  const open: ReturnType<Directory['entries']>[] = [];
  let node: Node | undefined = root;
  let batch: NarStep[] = [];
  for (;;) {
    if (batch.length >= BATCH || (node?.kind === 'directory' && batch.length > 0)) {
      yield batch;
      batch = [];
      signal?.throwIfAborted();
    }
    if (node?.kind === 'directory') {
      const directory: Directory | undefined = await directories.get(node.digest, signal);
      if (!directory) throw damaged(`directory ${node.digest} is missing`);
      if (open.length === MAX_TREE_DEPTH)
        throw damaged(`more than ${MAX_TREE_DEPTH} directories in each other, which no store path may have`);
      batch.push(BEGIN_DIRECTORY);
      open.push(directory.entries());
    } else {
      if (node?.kind === 'symlink') batch.push(node);
      else if (node) batch.push({ kind: 'file', node });
      else batch.push(END_DIRECTORY);
      if (open.length === 0) {
        yield batch;
        return;
      }
      batch.push(END_ENTRY);
    }
    const next: IteratorResult<readonly [Name, Node]> = open.at(-1)!.next();
    node = undefined;
    if (next.done) {
      open.pop();
      continue;
    }
    const [name, child] = next.value;
    batch.push({ kind: 'entry', name });
    node = child;
  }
}
