import { join } from 'node:path';
import { closureIn } from '../../store/moving/closure.ts';
import { realise } from '../../store/moving/realise.ts';
import type { NamedPath } from '../../store/named-path.ts';
import { parseStorePath, STORE_PATH_FORMS } from '../../store/named-path.ts';
import { openStore } from '../../store/open/open-store.ts';
import { findPathInfo } from '../../store/resolve.ts';
import { formatSize } from '../../util/bytes.ts';
import { Command } from '../command.ts';
import { interruptible } from '../interruptible.ts';
import { ProgressLine } from '../progress.ts';
import type { ReadFlags } from '../store-options.ts';
import { addressesOf, withReadOptions } from '../store-options.ts';

interface RealiseFlags extends ReadFlags {
  readonly closure?: boolean;
  readonly hardLink?: boolean;
}

export function realiseCommand(): Command {
  return withReadOptions(new Command('realise'))
    .alias('realize')
    .summary('write store paths as real files')
    .description(
      'Writes store paths into a directory as real files, with the modes and times that Nix gives them, and ' +
        'prints where they are, one per line, in the order given. Each is written under a temporary name, ' +
        'checked and then renamed. A store path that is already there is checked and kept, never replaced. ' +
        'Nothing is synced to disk.',
    )
    .usage('[options] <STORE_PATH...> <DIRECTORY>')
    .argument('<STORE_PATH>', `what to write: ${STORE_PATH_FORMS}`)
    .argument('<DIRECTORY...>', 'where to write it; this comes last and must exist')
    .option('--closure', 'also write everything they refer to')
    .option('--hard-link', 'make equal files hard links to each other')
    .example('tvix-store realise --closure 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir /srv/store')
    .action(run);
}

async function run(first: string, others: string[], flags: RealiseFlags): Promise<void> {
  const paths = [first, ...others.slice(0, -1)].map(parseStorePath);
  await interruptible((signal) => write(paths, others.at(-1)!, flags, signal));
}

async function write(
  paths: readonly NamedPath[],
  directory: string,
  flags: RealiseFlags,
  signal: AbortSignal,
): Promise<void> {
  const store = await openStore(addressesOf(flags), 'read');
  const progress = { entries: 0, bytes: 0 };
  const line = new ProgressLine(() => `${progress.entries} entries, ${formatSize(progress.bytes)}`);
  try {
    const named = await Promise.all(paths.map((path) => findPathInfo(store, path)));
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
