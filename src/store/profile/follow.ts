import type { Digest } from '../../castore/digest.ts';
import type { Directory } from '../../castore/directory.ts';
import type { DirectoryNode, FileNode } from '../../castore/node.ts';
import { printable } from '../../util/bytes.ts';
import { invalid } from '../../util/errors.ts';
import type { Profile, Step } from './profile.ts';
import { BLOCK } from './profile.ts';

/** What a step of a profile names. */
export interface FoundStep {
  /** Where it is, below the root of the tree, for people. */
  readonly path: string;
  readonly node: FileNode | DirectoryNode;
  /** Of a file, the bytes that are meant: the first, and how many. */
  readonly offset: number;
  readonly length: number;
}

/**
 * Finds what a profile names, step by step; `get` gives a directory of the tree. Throws INVALID_ARGUMENT where it names what the
 * tree does not have.
 */
export async function* follow(
  { root, steps }: Profile,
  get: (digest: Digest) => Promise<Directory>,
): AsyncGenerator<FoundStep> {
  const directories = [{ path: '', directory: await get(root) }];
  for (const step of steps) {
    const { path: above, directory } = directories[step.directory]!;
    if (step.entry >= directory.length) throw invalid('a profile names an entry that is not there');
    const path = `${above}${above && '/'}${printable(directory.name(step.entry))}`;
    const node = directory.node(step.entry);
    if (step.kind === 'directory') {
      if (node.kind !== 'directory') throw invalid('a profile names a directory that is none');
      directories.push({ path, directory: await get(node.digest) });
      yield { path, node, offset: 0, length: 0 };
    } else {
      if (node.kind !== 'file') throw invalid('a profile names a file that is none');
      yield { path, node, ...rangeIn(Number(node.size), step) };
    }
  }
}

function rangeIn(size: number, step: Step): { offset: number; length: number } {
  if (step.kind !== 'part') return { offset: 0, length: size };
  const offset = Math.min(size, step.start * BLOCK);
  return { offset, length: Math.min(size - offset, step.count * BLOCK) };
}
