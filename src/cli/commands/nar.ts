import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { Option } from 'commander';
import { parsePlace, STORE_PATH_FORMS } from '../../store/named-path.ts';
import { importNar } from '../../store/nar/import.ts';
import { narListing } from '../../store/nar/listing.ts';
import { renderNar } from '../../store/nar/render.ts';
import { openStore } from '../../store/open/open-store.ts';
import { resolveNode } from '../../store/resolve.ts';
import { formatSize } from '../../util/bytes.ts';
import { reasonOf, StoreError, UsageError } from '../../util/errors.ts';
import { nameArgument } from '../arguments.ts';
import { Command } from '../command.ts';
import { withKeepFree } from '../keep-free.ts';
import { ProgressLine } from '../progress.ts';
import type { StoreFlags } from '../store-options.ts';
import { addressesOf, withStoreOptions } from '../store-options.ts';

export function narCommand(): Command {
  return new Command('nar')
    .summary('dump, import and list Nix archives (NARs)')
    .description('Dumps, imports and lists Nix archives (NARs).')
    .example('tvix-store nar dump 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir > a_dir.nar')
    .addCommand(dumpCommand())
    .addCommand(importCommand())
    .addCommand(lsCommand());
}

function dumpCommand(): Command {
  return withStoreOptions(new Command('dump'))
    .summary('write the NAR of something in the store to standard output')
    .description('Writes the NAR of a store path, or of a file or directory in one, to standard output.')
    .argument('<STORE_PATH[/SUB]>', STORE_PATH_FORMS)
    .example('tvix-store nar dump 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir | nix-store --restore ./a_dir')
    .action(dump);
}

async function dump(argument: string, flags: StoreFlags): Promise<void> {
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
    .summary('import a NAR as a store path')
    .description(
      'Imports a NAR as a store path, content-addressed and without references, and prints the path. A NAR that ' +
        'is not in canonical form is refused.',
    )
    .argument('<FILE|->', 'the NAR, not compressed; - is standard input')
    .addOption(
      new Option('--name <name>', 'name of the store path').argParser(nameArgument).makeOptionMandatory(),
    )
    .example('nix-store --dump ./a_dir | tvix-store nar import --name a_dir -')
    .action(importFile);
}

async function importFile(file: string, flags: StoreFlags & { name: string }): Promise<void> {
  const input = file === '-' ? process.stdin : openFile(file);
  const store = await openStore(addressesOf(flags), 'write');
  let bytes = 0;
  const line = new ProgressLine(() => `${flags.name}: ${formatSize(bytes)}`);
  try {
    const info = await importNar(store, input, flags.name, {
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
  return withStoreOptions(new Command('ls'))
    .summary('list the NAR of something in the store')
    .description(
      'Prints the listing of the NAR of a store path, or of a file or directory in one, as JSON: what binary ' +
        'caches serve as HASH.ls. The contents of a file are at narOffset in the NAR.',
    )
    .argument('<STORE_PATH[/SUB]>', STORE_PATH_FORMS)
    .example('tvix-store nar ls 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir')
    .action(list);
}

async function list(argument: string, flags: StoreFlags): Promise<void> {
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
