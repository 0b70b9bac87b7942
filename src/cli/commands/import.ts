import { basename, resolve } from 'node:path';
import { Command } from 'commander';
import { checkName } from '../../nix/store-path.ts';
import { importStorePath } from '../../store/moving/import.ts';
import { openStore } from '../../store/open/open-store.ts';
import { formatSize } from '../../util/bytes.ts';
import { messageOf, StoreError } from '../../util/errors.ts';
import { ProgressLine } from '../progress.ts';
import type { SigningFlags, StoreFlags } from '../store-options.ts';
import { addressesOf, signingOption, withStoreOptions } from '../store-options.ts';

interface ImportFlags extends StoreFlags, SigningFlags {
  readonly name?: string;
}

export function importCommand(): Command {
  return withStoreOptions(new Command('import'))
    .summary('import files, directories or links as store paths')
    .description(
      'Imports each path (a file, a directory or a link) and prints its store path, one a line, in the order given.\n' +
        'A store path that is printed is on disk. What is already in the store is not stored again.',
    )
    .argument('<path...>', 'what to import')
    .option('--name <name>', 'name of the store path, for a single path (default: the last part of the path)')
    .addOption(signingOption())
    .addHelpText(
      'after',
      '\nExample:\n  tvix-store import ./result ~/src/project\n  tvix-store import --name hello ./bin/hello',
    )
    .action(run);
}

async function run(paths: string[], flags: ImportFlags, command: Command): Promise<void> {
  if (flags.name !== undefined && paths.length > 1) command.error('error: --name goes with a single path');
  // Every name is checked before any work is done.
  const named = paths.map((path) => ({ path, name: flags.name ?? nameOf(path) }));
  const store = await openStore(addressesOf(flags), 'write');
  const progress = { entries: 0, bytes: 0 };
  let current = '';
  const line = new ProgressLine(
    () => `${current}: ${progress.entries} entries, ${formatSize(progress.bytes)}`,
  );
  try {
    for (const { path, name } of named) {
      current = name;
      const info = await importStorePath(store, Buffer.from(path), name, {
        progress,
        onProgress: () => line.update(),
      });
      line.clear();
      process.stdout.write(`${info.storePath.absolute()}\n`);
    }
  } finally {
    line.clear();
    await store.close();
  }
}

function nameOf(path: string): string {
  const name = basename(resolve(path));
  try {
    checkName(name);
  } catch (error) {
    throw new StoreError('INVALID_ARGUMENT', `${path}: ${messageOf(error)}; give one with --name`);
  }
  return name;
}
