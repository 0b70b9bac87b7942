import { basename, resolve } from 'node:path';
import { Option } from 'commander';
import { checkName } from '../../nix/store-path.ts';
import { importStorePath } from '../../store/moving/import.ts';
import { makeOutboards } from '../../store/moving/outboards.ts';
import { openStore } from '../../store/open/open-store.ts';
import { formatSize } from '../../util/bytes.ts';
import { UsageError } from '../../util/errors.ts';
import { argument, nameArgument } from '../arguments.ts';
import { Command } from '../command.ts';
import { withKeepFree } from '../keep-free.ts';
import { ProgressLine } from '../progress.ts';
import type { SigningFlags, StoreFlags } from '../store-options.ts';
import { addressesOf, signingOption, withStoreOptions } from '../store-options.ts';

interface ImportFlags extends StoreFlags, SigningFlags {
  readonly name?: string;
  readonly outboards?: true;
}

export function importCommand(): Command {
  return withKeepFree(withStoreOptions(new Command('import')))
    .summary('import files, directories or symbolic links as store paths')
    .description(
      'Imports each path (a file, a directory or a symbolic link) and prints its store path, one per line, in ' +
        'the order given. A store path that has been printed is on disk. What the store already has is not ' +
        'stored again.',
    )
    .argument('<PATH...>', 'what to import')
    .addOption(
      new Option(
        '--name <name>',
        'name of the store path, if there is only one PATH (default: the last part of PATH)',
      ).argParser(nameArgument),
    )
    .option(
      '--outboards',
      'make now what proves parts of large files by their digest (0.4 % of their size), not when it is first asked for',
    )
    .addOption(signingOption())
    .example('tvix-store import ./result ~/src/project', 'tvix-store import --name hello ./bin/hello')
    .action(run);
}

async function run(paths: string[], flags: ImportFlags): Promise<void> {
  if (flags.name !== undefined && paths.length > 1) throw new UsageError('--name needs exactly one PATH');
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
      if (flags.outboards) await makeOutboards(store, info.node);
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
  argument(() => checkName(name), `give --name, because ${path} cannot give a name`);
  return name;
}
