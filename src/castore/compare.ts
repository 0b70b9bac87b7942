import { mapAhead } from '../util/async/iterables.ts';
import { compareBytes } from '../util/bytes.ts';
import type { Digest } from './digest.ts';
import type { Directory } from './directory.ts';
import type { DirectoryNode, Name, Node } from './node.ts';

/** Directories of one level that are asked for ahead: those of a far store take a round trip each. */
const AHEAD = 32;

/** What is at one place of two trees, and not the same; one side lacks it when it was added or removed. */
export interface Change {
  /** From the root of the trees; of the roots themselves it is empty. */
  readonly path: readonly Name[];
  readonly before?: Node | undefined;
  readonly after?: Node | undefined;
}

export interface CompareOptions {
  /** Reads a directory. Throws when it is not there. */
  readonly directory: (digest: Digest) => Promise<Directory>;
  /** Whether to tell of all that is in a directory which the other tree does not have, too. */
  readonly isRecursive?: boolean;
}

interface Pair {
  readonly before?: Node | undefined;
  readonly after?: Node | undefined;
}

interface Entry extends Pair {
  readonly name: Name;
}

/**
 * Tells what differs between two trees, in the order of paths. It reads only directories that differ, and no contents: what has
 * the same digest is the same. A directory that both have is not told of itself, but what differs in it.
 */
export async function* compareTrees(
  before: Node,
  after: Node,
  options: CompareOptions,
): AsyncGenerator<Change> {
  const pair = { before, after };
  if (!isSame(pair)) yield* changes([], pair, options, await open(pair, options));
}

/** The directories at a place, as far as what differs in them is to be told. */
interface Opened {
  readonly before?: Directory | undefined;
  readonly after?: Directory | undefined;
}

async function* changes(
  path: readonly Name[],
  pair: Pair,
  options: CompareOptions,
  opened: Opened,
): AsyncGenerator<Change> {
  if (!areDirectories(pair)) yield { path, ...pair };
  const ahead = mapAhead(differing(opened), AHEAD, async (entry) => ({
    entry,
    within: await open(entry, options),
  }));
  for await (const { entry, within } of ahead) yield* changes([...path, entry.name], entry, options, within);
}

async function open(pair: Pair, { directory, isRecursive = false }: CompareOptions): Promise<Opened> {
  if (!isRecursive && !areDirectories(pair)) return {};
  const read = async (node: Node | undefined) =>
    node?.kind === 'directory' ? directory(node.digest) : undefined;
  const [before, after] = await Promise.all([read(pair.before), read(pair.after)]);
  return { before, after };
}

/** The entries of two directories that are not the same in both, in the order of their names. */
function* differing({ before, after }: Opened): Generator<Entry> {
  let [i, j] = [0, 0];
  const [ends, endsAfter] = [before?.length ?? 0, after?.length ?? 0];
  while (i < ends || j < endsAfter) {
    const order = i === ends ? 1 : j === endsAfter ? -1 : compareBytes(before!.name(i), after!.name(j));
    const name = order > 0 ? after!.name(j) : before!.name(i);
    const pair = {
      before: order <= 0 ? before!.node(i++) : undefined,
      after: order >= 0 ? after!.node(j++) : undefined,
    };
    if (!isSame(pair)) yield { name, ...pair };
  }
}

function areDirectories(pair: Pair): pair is { before: DirectoryNode; after: DirectoryNode } {
  return pair.before?.kind === 'directory' && pair.after?.kind === 'directory';
}

function isSame({ before, after }: Pair): boolean {
  return before !== undefined && after !== undefined && differences(before, after).length === 0;
}

/** In what two nodes can differ. */
export type Difference = 'type' | 'contents' | 'executable' | 'target';

/** In what two nodes differ; of files of one digest the size is the same, too. */
export function differences(before: Node, after: Node): Difference[] {
  if (before.kind === 'symlink' && after.kind === 'symlink')
    return compareBytes(before.target, after.target) === 0 ? [] : ['target'];
  if (before.kind === 'symlink' || after.kind === 'symlink' || before.kind !== after.kind) return ['type'];
  const found: Difference[] = before.digest.equals(after.digest) ? [] : ['contents'];
  if (before.kind === 'file' && after.kind === 'file' && before.executable !== after.executable)
    found.push('executable');
  return found;
}
