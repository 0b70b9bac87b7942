import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { Option } from 'commander';
import { closureOf, refuseMissing } from '../../store/moving/closure.ts';
import { exportPaths, importExport, isExport } from '../../store/moving/nix-export.ts';
import { parsePlace, parseStorePath, STORE_PATH_FORMS } from '../../store/named-path.ts';
import { importNar } from '../../store/nar/import.ts';
import { narListing } from '../../store/nar/listing.ts';
import { renderNar } from '../../store/nar/render.ts';
import { openStore } from '../../store/open/open-store.ts';
import { findPathInfo, resolveNode } from '../../store/resolve.ts';
import { beginOf } from '../../util/async/iterables.ts';
import { formatSize } from '../../util/bytes.ts';
import { reasonOf, StoreError, UsageError } from '../../util/errors.ts';
import { nameArgument } from '../arguments.ts';
import { Command } from '../command.ts';
import { withKeepFree } from '../keep-free.ts';
import { ProgressLine } from '../progress.ts';
import type { ReadFlags, StoreFlags } from '../store-options.ts';
import { addressesOf, withReadOptions, withStoreOptions } from '../store-options.ts';

export function narCommand(): Command {
  return new Command('nar')
    .summary('dump, import, export and list Nix archives (NARs)')
    .description('Dumps, imports, exports and lists Nix archives (NARs).')
    .example('tvix-store nar dump 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir > a_dir.nar')
    .addCommand(dumpCommand())
    .addCommand(importCommand())
    .addCommand(exportCommand())
    .addCommand(lsCommand());
}

function dumpCommand(): Command {
  return withReadOptions(new Command('dump'))
    .summary('write the NAR of something in the store to standard output')
    .description('Writes the NAR of a store path, or of a file or directory in one, to standard output.')
    .argument('<STORE_PATH[/SUB]>', STORE_PATH_FORMS)
    .example('tvix-store nar dump 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir | nix-store --restore ./a_dir')
    .action(dump);
}

async function dump(argument: string, flags: ReadFlags): Promise<void> {
  const place = parsePlace(argument);
  if (process.stdout.isTTY) throw new UsageError('a NAR is binary data: redirect it to a file or a pipe');
  const store = await openStore(addressesOf(flags), 'read');
  try {
    const { node } = await resolveNode(store, place);
    await pipeline(renderNar(store, node), process.stdout, { end: false });
  } finally {
    await store.close();
  }
}

function importCommand(): Command {
  return withKeepFree(withStoreOptions(new Command('import')))
    .summary('import a NAR as a store path, or what nix-store --export writes')
    .description(
      'Imports a NAR as a store path, content-addressed and without references, and prints the path. A NAR that ' +
        'is not in canonical form is refused. Without --name, it imports what nix-store --export or nar export has ' +
        'written, with names and references, and prints the paths; that has no signatures, so it must come from whom you trust.',
    )
    .argument('<FILE|->', 'the NAR or the export, not compressed; - is standard input')
    .addOption(new Option('--name <name>', 'name of the store path, for a NAR').argParser(nameArgument))
    .example(
      'nix-store --dump ./a_dir | tvix-store nar import --name a_dir -',
      'nix-store --export $(nix-store -qR ./result) | tvix-store nar import -',
    )
    .action(importFile);
}

function exportCommand(): Command {
  return withReadOptions(new Command('export'))
    .summary('write store paths as nix-store --import reads them')
    .description(
      'Writes store paths, and everything they refer to, to standard output, as nix-store --export does: nix-store ' +
        '--import and nar import read it. Signatures have no place in it.',
    )
    .argument('<STORE_PATH...>', STORE_PATH_FORMS)
    .option('--no-closure', 'write only these paths, without what they refer to')
    .example('tvix-store nar export 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir | nix-store --import')
    .action(exportAll);
}

async function exportAll(names: string[], flags: ReadFlags & { closure: boolean }): Promise<void> {
  const wanted = names.map(parseStorePath);
  if (process.stdout.isTTY) throw new UsageError('an export is binary data: redirect it to a file or a pipe');
  const store = await openStore(addressesOf(flags), 'read');
  try {
    const named = await Promise.all(wanted.map((path) => findPathInfo(store, path)));
    const { paths, missing } = await closureOf(named, ({ hash }, signal) =>
      store.pathInfos.get(hash, signal),
    );
    if (flags.closure) refuseMissing(missing, 'the store does not have everything that is referred to');
    const chosen = new Set(named.map(({ storePath }) => String(storePath)));
    const written = flags.closure ? paths : paths.filter(({ storePath }) => chosen.has(String(storePath)));
    await pipeline(exportPaths(store, written), process.stdout, { end: false });
  } finally {
    await store.close();
  }
}

async function importFile(file: string, flags: StoreFlags & { name?: string }): Promise<void> {
  const [begin, input] = await beginOf(file === '-' ? process.stdin : openFile(file), BEGIN_LENGTH);
  const { name } = flags;
  if (isExport(begin)) {
    if (name !== undefined)
      throw new UsageError('--name is for a NAR, and this is an export, which names its paths');
    return importAll(input, flags);
  }
  if (name === undefined)
    throw new UsageError('give --name <name>: a NAR says nothing of how its store path is named');
  await importOne(input, name, flags);
}

async function importAll(input: AsyncIterable<Uint8Array>, flags: StoreFlags): Promise<void> {
  const store = await openStore(addressesOf(flags), 'write');
  let bytes = 0;
  const line = new ProgressLine(() => formatSize(bytes));
  try {
    await importExport(store, input, {
      onProgress: (count) => {
        bytes = count;
        line.update();
      },
      onTaken: (path) => {
        line.clear();
        process.stdout.write(`${path.absolute()}\n`);
      },
    });
  } finally {
    line.clear();
    await store.close();
  }
}

async function importOne(input: AsyncIterable<Uint8Array>, name: string, flags: StoreFlags): Promise<void> {
  const store = await openStore(addressesOf(flags), 'write');
  let bytes = 0;
  const line = new ProgressLine(() => `${name}: ${formatSize(bytes)}`);
  try {
    const info = await importNar(store, input, name, {
      onProgress: (count) => {
        bytes = count;
        line.update();
      },
    });
    line.clear();
    process.stdout.write(`${info.storePath.absolute()}\n`);
  } finally {
    line.clear();
    await store.close();
  }
}

const READ_LENGTH = 1 << 20;
/** Tells what a stream is. */
const BEGIN_LENGTH = 8;

/** The parts of a file, in the same memory one after the other. Throws INVALID_ARGUMENT before the first. */
function openFile(path: string): Iterable<Uint8Array> {
  try {
    const fd = openSync(path, 'r');
    if (fstatSync(fd).isDirectory()) throw new Error('it is a directory; tvix-store import takes those');
    return partsOf(fd);
  } catch (error) {
    throw new StoreError('INVALID_ARGUMENT', `cannot read ${path}: ${reasonOf(error)}`, { cause: error });
  }
}

function* partsOf(fd: number): Generator<Uint8Array> {
  const block = Buffer.allocUnsafeSlow(READ_LENGTH);
  for (let count = -1; count !== 0; ) {
    count = readSync(fd, block);
    if (count > 0) yield block.subarray(0, count);
  }
  closeSync(fd);
}

function lsCommand(): Command {
  return withReadOptions(new Command('ls'))
    .summary('list the NAR of something in the store')
    .description(
      'Prints the listing of the NAR of a store path, or of a file or directory in one, as JSON: what binary ' +
        'caches serve as HASH.ls. The contents of a file are at narOffset in the NAR.',
    )
    .argument('<STORE_PATH[/SUB]>', STORE_PATH_FORMS)
    .example('tvix-store nar ls 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir')
    .action(list);
}

async function list(argument: string, flags: ReadFlags): Promise<void> {
  const place = parsePlace(argument);
  const store = await openStore(addressesOf(flags), 'read');
  try {
    const { node } = await resolveNode(store, place);
    for await (const part of narListing(store, node)) process.stdout.write(part);
    process.stdout.write('\n');
  } finally {
    await store.close();
  }
}
