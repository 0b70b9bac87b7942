import type { Change } from '../../castore/compare.ts';
import { compareTrees, differences } from '../../castore/compare.ts';
import type { Node } from '../../castore/node.ts';
import { parsePlace, STORE_PATH_FORMS } from '../../store/named-path.ts';
import { openStore } from '../../store/open/open-store.ts';
import { resolveNode } from '../../store/resolve.ts';
import { formatSize, printable } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import { Command } from '../command.ts';
import { nodeToJson, textToJson } from '../node-json.ts';
import { ProgressLine } from '../progress.ts';
import type { ReadFlags } from '../store-options.ts';
import { addressesOf, withReadOptions } from '../store-options.ts';

interface DiffFlags extends ReadFlags {
  readonly recursive?: boolean;
  readonly summary?: boolean;
  readonly exitCode?: boolean;
  readonly json?: boolean;
}

export function diffCommand(): Command {
  return withReadOptions(new Command('diff'))
    .summary('show what differs between two store paths')
    .description(
      'Shows what was added, removed and changed from one store path, or a place in one, to another. It reads the ' +
        'directories that differ, and no contents of files: two are the same when their digests are.',
    )
    .argument('<STORE_PATH[/SUB]>', `what there was before: ${STORE_PATH_FORMS}`)
    .argument('<OTHER[/SUB]>', 'what there is after that')
    .option('-R, --recursive', 'also list what is in directories that only one of the two has')
    .option('--summary', 'print only how much was added, removed and changed, in all directories')
    .option('--exit-code', 'end with 1 when something differs')
    .option('--json', 'print one JSON object per line')
    .example(
      'tvix-store diff 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir 1qkbwz3gryl8lwnjhnzxx0q4w4dg5sf5-a_dir',
      'tvix-store diff --summary 8vbqaxapywkvv1hacdja3pi075r14d43 1qkbwz3gryl8lwnjhnzxx0q4w4dg5sf5',
    )
    .action(run);
}

async function run(one: string, other: string, flags: DiffFlags): Promise<void> {
  const places = [parsePlace(one), parsePlace(other)] as const;
  const store = await openStore(addressesOf(flags), 'read');
  let directories = 0;
  const line = new ProgressLine(() => `${directories} directories`);
  const totals = new Totals();
  let isSame = true;
  try {
    const [before, after] = await Promise.all(places.map((place) => resolveNode(store, place)));
    const changes = compareTrees(before!.node, after!.node, {
      isRecursive: (flags.recursive || flags.summary) ?? false,
      async directory(digest) {
        directories++;
        line.update();
        const found = await store.directories.get(digest);
        if (!found) throw damaged(`directory ${digest} is missing`);
        return found;
      },
    });
    for await (const change of changes) {
      isSame = false;
      if (flags.summary) totals.add(change);
      else {
        line.clear();
        process.stdout.write(`${flags.json ? JSON.stringify(toJson(change)) : describe(change)}\n`);
      }
    }
  } finally {
    line.clear();
    await store.close();
  }
  if (flags.summary)
    process.stdout.write(`${flags.json ? JSON.stringify(totals.toJson()) : totals.describe()}\n`);
  if (flags.exitCode && !isSame) process.exitCode = 1;
}

type Verb = 'added' | 'removed' | 'changed';

function verbOf({ before, after }: Change): Verb {
  if (!before) return 'added';
  return after ? 'changed' : 'removed';
}

/** How many entries, and how many bytes their files have. */
class Totals {
  readonly #entries: Record<Verb, number> = { added: 0, removed: 0, changed: 0 };
  #before = 0;
  #after = 0;

  add(change: Change): void {
    this.#entries[verbOf(change)]++;
    this.#before += fileSize(change.before);
    this.#after += fileSize(change.after);
  }

  toJson() {
    return { ...this.#entries, bytesBefore: this.#before, bytesAfter: this.#after };
  }

  describe(): string {
    const { added, removed, changed } = this.#entries;
    return (
      `${added} added, ${removed} removed, ${changed} changed; ` +
      `their files had ${formatSize(this.#before)}, and have ${formatSize(this.#after)}`
    );
  }
}

function fileSize(node: Node | undefined): number {
  return node?.kind === 'file' ? Number(node.size) : 0;
}

/** The path as bytes; of the roots, as `find` has it, a dot. */
function pathOf({ path }: Change): Buffer {
  if (path.length === 0) return Buffer.from('.');
  return Buffer.concat(path.flatMap((name, i) => (i === 0 ? [name] : [Buffer.from('/'), name])));
}

function describe(change: Change): string {
  const { before, after } = change;
  const name =
    printable(pathOf(change)) + ((before && after) || (before ?? after)!.kind !== 'directory' ? '' : '/');
  return `${verbOf(change).padEnd(8)} ${name}${before && after ? `\t${changeOf(before, after)}` : ''}`;
}

function changeOf(before: Node, after: Node): string {
  return differences(before, after)
    .map((difference) => {
      if (difference === 'executable') return executable(after) ? 'now executable' : 'no longer executable';
      if (difference === 'type') return `a ${before.kind} became a ${after.kind}`;
      if (difference === 'target') return `${target(before)} became ${target(after)}`;
      const [was, is] = [fileSize(before), fileSize(after)];
      return was === is ? `other contents of ${is} bytes` : `${was} bytes became ${is}`;
    })
    .join(', ');
}

function executable(node: Node): boolean {
  return node.kind === 'file' && node.executable;
}

function target(node: Node): string {
  return node.kind === 'symlink' ? printable(node.target) : '';
}

function toJson(change: Change) {
  const { before, after } = change;
  return {
    change: verbOf(change),
    ...textToJson(pathOf(change), 'path'),
    ...(before && after ? { differs: differences(before, after) } : {}),
    ...(before ? { before: nodeToJson(before) } : {}),
    ...(after ? { after: nodeToJson(after) } : {}),
  };
}
