import { join } from 'node:path';
import { Command } from 'commander';
import { closureIn } from '../../store/moving/closure.ts';
import { realise } from '../../store/moving/realise.ts';
import { openStore } from '../../store/open/open-store.ts';
import { findStorePaths } from '../../store/resolve.ts';
import { formatSize } from '../../util/bytes.ts';
import { interruptible } from '../interruptible.ts';
import { ProgressLine } from '../progress.ts';
import type { StoreFlags } from '../store-options.ts';
import { addressesOf, withStoreOptions } from '../store-options.ts';

interface RealiseFlags extends StoreFlags {
  readonly closure?: boolean;
  readonly hardLink?: boolean;
}

export function realiseCommand(): Command {
  return withStoreOptions(new Command('realise'))
    .alias('realize')
    .summary('write store paths as real files')
    .description(
      'Writes store paths into a directory as real files, with the modes and times that Nix gives them, and prints\n' +
        'where they are, one a line, in the order given. Each is written under a temporary name, checked and then\n' +
        'named. What is there already is checked and kept, and never replaced. Nothing is synced to the disk.',
    )
    .usage('[options] STORE_PATH... DIRECTORY')
    .argument('<STORE_PATH>', 'what to write; /nix/store/ may be left out, a bare hash will do')
    .argument('<DIRECTORY...>', 'more of them, and at the end where to; that directory must exist')
    .option('--closure', 'write what they refer to as well')
    .option('--hard-link', 'make equal files that are written links to each other')
    .addHelpText(
      'after',
      '\nExample:\n  tvix-store realise --closure 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir /srv/store',
    )
    .action(run);
}

function run(first: string, others: string[], flags: RealiseFlags): Promise<void> {
  const names = [first, ...others.slice(0, -1)];
  return interruptible((signal) => write(names, others.at(-1)!, flags, signal));
}

async function write(
  names: readonly string[],
  directory: string,
  flags: RealiseFlags,
  signal: AbortSignal,
): Promise<void> {
  const store = await openStore(addressesOf(flags), 'read');
  const progress = { entries: 0, bytes: 0 };
  const line = new ProgressLine(() => `${progress.entries} entries, ${formatSize(progress.bytes)}`);
  try {
    const named = await findStorePaths(store, names);
    const infos = flags.closure ? await closureIn(store.pathInfos, named, signal) : named;
    await realise(store, infos, directory, {
      hardLink: flags.hardLink ?? false,
      progress,
      onProgress: () => line.update(),
      signal,
    });
    line.clear();
    for (const { storePath } of named) process.stdout.write(`${join(directory, String(storePath))}\n`);
  } finally {
    line.clear();
    await store.close();
  }
}
