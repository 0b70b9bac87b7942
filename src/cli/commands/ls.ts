import type { Node } from '../../castore/node.ts';
import type { NamedPlace } from '../../store/named-path.ts';
import { parsePlace, STORE_PATH_FORMS } from '../../store/named-path.ts';
import { openStore } from '../../store/open/open-store.ts';
import { fetchDirectory, resolveNode } from '../../store/resolve.ts';
import type { Store } from '../../store/services.ts';
import { asBuffer, printable } from '../../util/bytes.ts';
import { UsageError } from '../../util/errors.ts';
import { allOption } from '../chosen-paths.ts';
import { Command } from '../command.ts';
import type { StoreFlags } from '../store-options.ts';
import { addressesOf, withStoreOptions } from '../store-options.ts';

interface LsFlags extends StoreFlags {
  readonly all?: boolean;
  readonly long?: boolean;
  readonly recursive?: boolean;
  readonly json?: boolean;
}

interface Row {
  /** Path relative to what was listed, as bytes. */
  readonly path: Buffer;
  readonly node: Node;
}

export function lsCommand(): Command {
  return withStoreOptions(new Command('ls'))
    .summary('list store paths, or the contents of one')
    .description('Lists the store paths in the store, or the contents of one of them.')
    .argument('[STORE_PATH[/SUB]]', STORE_PATH_FORMS)
    .addOption(allOption())
    .option('-l, --long', 'show modes, sizes and the targets of symbolic links')
    .option('-R, --recursive', 'list subdirectories too')
    .option('--json', 'print one JSON object per line')
    .example('tvix-store ls', 'tvix-store ls -lR 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir')
    .action(run);
}

async function run(argument: string | undefined, flags: LsFlags): Promise<void> {
  if (flags.all && argument !== undefined)
    throw new UsageError('give either a STORE_PATH or --all, not both');
  const place = argument === undefined ? 'all' : parsePlace(argument);
  const store = await openStore(addressesOf(flags), 'read');
  try {
    for await (const row of rows(store, place, flags.recursive ?? false))
      process.stdout.write(`${format(row, flags)}\n`);
  } finally {
    await store.close();
  }
}

async function* rows(store: Store, place: NamedPlace | 'all', recursive: boolean): AsyncGenerator<Row> {
  if (place === 'all') {
    for await (const { storePath, node } of store.pathInfos.list()) {
      const path = Buffer.from(storePath.toString());
      yield { path, node };
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

function format({ path, node }: Row, flags: LsFlags): string {
  if (flags.json) return JSON.stringify(toJson(path, node));
  const name = printable(path);
  if (!flags.long) return name;
  switch (node.kind) {
    case 'directory':
      return `dr-xr-xr-x ${String(node.size).padStart(12)} ${name}`;
    case 'file':
      return `${node.executable ? '-r-xr-xr-x' : '-r--r--r--'} ${String(node.size).padStart(12)} ${name}`;
    case 'symlink':
      return `lrwxrwxrwx ${String(node.target.length).padStart(12)} ${name} -> ${printable(node.target)}`;
  }
}

function toJson(path: Buffer, node: Node) {
  // Names that are not UTF-8 come as bytes, so that nothing is lost.
  const text = (bytes: Uint8Array, key: string) => {
    const string = asBuffer(bytes).toString('utf8');
    return Buffer.from(string).equals(bytes)
      ? { [key]: string }
      : { [`${key}Base64`]: asBuffer(bytes).toString('base64') };
  };
  switch (node.kind) {
    case 'directory':
      return {
        ...text(path, 'path'),
        type: 'directory',
        size: Number(node.size),
        digest: String(node.digest),
      };
    case 'file':
      return {
        ...text(path, 'path'),
        type: 'regular',
        size: Number(node.size),
        executable: node.executable,
        digest: String(node.digest),
      };
    case 'symlink':
      return { ...text(path, 'path'), type: 'symlink', ...text(node.target, 'target') };
  }
}
