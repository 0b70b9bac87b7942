import type { Digest } from './digest.ts';
import type { Directory } from './directory.ts';
import { KIND } from './directory-codec.ts';
import type { FileNode } from './node.ts';

/** The directories of a tree, children before their parents, each once; those in `seen` are left out. */
export async function* leavesFirst(
  root: Digest,
  get: (digest: Digest) => Directory | Promise<Directory>,
  seen = new Set<string>(),
): AsyncGenerator<Directory> {
  const stack: { directory: Directory; next: number }[] = [];
  const enter = async (digest: Digest) => {
    if (seen.has(digest.hex)) return;
    seen.add(digest.hex);
    stack.push({ directory: await get(digest), next: 0 });
  };
  await enter(root);
  for (let top = stack.at(-1); top; top = stack.at(-1)) {
    const { directory } = top;
    if (top.next === directory.length) {
      yield directory;
      stack.pop();
      continue;
    }
    if (directory.kind(top.next) !== KIND.directory) {
      top.next++;
      continue;
    }
    const child = directory.node(top.next++);
    if (child.kind === 'directory') await enter(child.digest);
  }
}

/** The files in a directory. */
export function* filesOf(directory: Directory): Generator<FileNode> {
  for (let i = 0; i < directory.length; i++) {
    if (directory.kind(i) !== KIND.file) continue;
    const node = directory.node(i);
    if (node.kind === 'file') yield node;
  }
}
