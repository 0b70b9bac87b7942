import { damaged } from '../../util/errors.ts';
import type { Digest } from '../digest.ts';
import type { Directory } from '../directory.ts';
import { KIND } from '../directory-codec.ts';
import type { FileNode, Node } from '../node.ts';

/** What a copy did so far. */
export interface CopyProgress {
  /** Files and directories looked at. */
  objects: number;
  /** Bytes of contents that were not there. */
  bytes: number;
}

export interface CopyOptions {
  readonly progress?: CopyProgress | undefined;
  readonly onProgress?: (() => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Copies trees from one place to another: what is there already does not go again. */
export interface TreeCopier {
  /**
   * Copies a tree, contents before what names them. Visible and durable once the target has been flushed.
   * Throws DATA_LOSS when a part of it is missing or damaged.
   */
  copy(root: Node, signal?: AbortSignal): Promise<void>;
}

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

export function anotherSize({ digest, size }: FileNode) {
  return damaged(`blob ${digest} has another size than ${size}`);
}
