import { Option } from 'commander';
import type { Node } from '../../castore/node.ts';
import type { PathFacts, SortKey } from '../../store/keeping/listing.ts';
import { listed, SORT_KEYS } from '../../store/keeping/listing.ts';
import type { NamedPlace } from '../../store/named-path.ts';
import { parsePlace, STORE_PATH_FORMS } from '../../store/named-path.ts';
import { openStore } from '../../store/open/open-store.ts';
import { fetchDirectory, resolveNode } from '../../store/resolve.ts';
import type { Store } from '../../store/services.ts';
import { printable } from '../../util/bytes.ts';
import { UsageError } from '../../util/errors.ts';
import { allOption } from '../chosen-paths.ts';
import { Command } from '../command.ts';
import { nodeToJson, textToJson } from '../node-json.ts';
import type { ReadFlags } from '../store-options.ts';
import { addressesOf, withReadOptions } from '../store-options.ts';

interface LsFlags extends ReadFlags {
  readonly all?: boolean;
  readonly long?: boolean;
  readonly recursive?: boolean;
  readonly sort?: SortKey;
  readonly json?: boolean;
}

interface Row {
  /** Path relative to what was listed, as bytes. */
  readonly path: Buffer;
  readonly node: Node;
  /** Of a store path itself. */
  readonly facts?: PathFacts;
}

const DATE_LENGTH = '2026-01-31T12:00:00Z'.length;

export function lsCommand(): Command {
  return withReadOptions(new Command('ls'))
    .summary('list store paths, or the contents of one')
    .description('Lists the store paths in the store, or the contents of one of them.')
    .argument('[STORE_PATH[/SUB]]', STORE_PATH_FORMS)
    .addOption(allOption())
    .option(
      '-l, --long',
      'show modes, sizes and the targets of symbolic links; what --sort goes by comes first',
    )
    .option('-R, --recursive', 'list subdirectories too')
    .addOption(
      new Option(
        '--sort <by>',
        'list the store paths by their names, the sizes of their NARs (largest first), or the times when they were ' +
          'added or used (latest first); only a local store knows times, and notes a use within 10 minutes',
      ).choices(SORT_KEYS),
    )
    .option('--json', 'print one JSON object per line')
    .example(
      'tvix-store ls',
      'tvix-store ls -l --sort used',
      'tvix-store ls -lR 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir',
    )
    .action(run);
}

async function run(argument: string | undefined, flags: LsFlags): Promise<void> {
  if (flags.all && argument !== undefined)
    throw new UsageError('give either a STORE_PATH or --all, not both');
  const place = argument === undefined ? 'all' : parsePlace(argument);
  if (flags.sort && place !== 'all')
    throw new UsageError('--sort is for the store paths of a store: leave out STORE_PATH');
  const store = await openStore(addressesOf(flags), 'read');
  try {
    for await (const row of rows(store, place, flags)) process.stdout.write(`${format(row, flags)}\n`);
  } finally {
    await store.close();
  }
}

async function* rows(
  store: Store,
  place: NamedPlace | 'all',
  { recursive = false, sort }: LsFlags,
): AsyncGenerator<Row> {
  if (place === 'all') {
    for await (const { storePath, node, ...facts } of listed(store, sort)) {
      const path = Buffer.from(storePath.toString());
      yield { path, node, facts };
      if (recursive && node.kind === 'directory') yield* below(store, path, node, true);
    }
    return;
  }
  const { info, subPath, node } = await resolveNode(store, place);
  if (node.kind === 'directory') yield* below(store, Buffer.alloc(0), node, recursive);
  else yield { path: Buffer.from(subPath.split('/').pop() || info.storePath.toString()), node };
}

async function* below(
  store: Store,
  prefix: Buffer,
  node: Node & { kind: 'directory' },
  recursive: boolean,
): AsyncGenerator<Row> {
  const directory = await fetchDirectory(store, node);
  for (const [name, child] of directory.entries()) {
    const path = prefix.length > 0 ? Buffer.concat([prefix, Buffer.from('/'), name]) : Buffer.from(name);
    yield { path, node: child };
    if (recursive && child.kind === 'directory') yield* below(store, path, child, true);
  }
}

function format({ path, node, facts }: Row, flags: LsFlags): string {
  if (flags.json)
    return JSON.stringify({
      ...textToJson(path, 'path'),
      ...nodeToJson(node),
      ...(facts && factsToJson(facts)),
    });
  const name = printable(path);
  if (!flags.long) return name;
  const by = facts && flags.sort && flags.sort !== 'name' ? `${sortedBy(facts, flags.sort)} ` : '';
  return by + longFormat(name, node);
}

function sortedBy(facts: PathFacts, by: Exclude<SortKey, 'name'>): string {
  if (by === 'size') return String(facts.narSize).padStart(12);
  return (dateOf(facts[by]) ?? '-').padEnd(DATE_LENGTH);
}

function factsToJson({ narSize, added, used }: PathFacts) {
  return { narSize, added: dateOf(added), used: dateOf(used) };
}

function dateOf(seconds: number | undefined): string | undefined {
  return seconds === undefined ? undefined : new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');
}

function longFormat(name: string, node: Node): string {
  switch (node.kind) {
    case 'directory':
      return `dr-xr-xr-x ${String(node.size).padStart(12)} ${name}`;
    case 'file':
      return `${node.executable ? '-r-xr-xr-x' : '-r--r--r--'} ${String(node.size).padStart(12)} ${name}`;
    case 'symlink':
      return `lrwxrwxrwx ${String(node.target.length).padStart(12)} ${name} -> ${printable(node.target)}`;
  }
}
