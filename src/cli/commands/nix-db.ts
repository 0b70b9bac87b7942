import { sortStorePaths } from '../../nix/store-path.ts';
import { closureOf, refuseMissing } from '../../store/moving/closure.ts';
import { parseStorePath, STORE_PATH_FORMS } from '../../store/named-path.ts';
import { openStore } from '../../store/open/open-store.ts';
import type { PathDescription } from '../../store/path-info/path-info.ts';
import { describePath } from '../../store/resolve.ts';
import { toHex } from '../../util/bytes.ts';
import { Command } from '../command.ts';
import type { ReadFlags } from '../store-options.ts';
import { addressesOf, withReadOptions } from '../store-options.ts';

export function nixDbCommand(): Command {
  return withReadOptions(new Command('nix-db'))
    .summary('print the registration of store paths for nix-store --load-db')
    .description(
      'Prints the registration of store paths and of everything they refer to, for nix-store --load-db; after ' +
        'that, Nix uses the mount as its store. No contents are fetched. References that are not in the store ' +
        'are listed at the end, and the exit code is 1: Nix accepts the registration only if it has them.',
    )
    .argument('<STORE_PATH...>', STORE_PATH_FORMS)
    .example('tvix-store nix-db 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir | nix-store --load-db')
    .action(run);
}

async function run(names: string[], flags: ReadFlags): Promise<void> {
  const named = names.map(parseStorePath);
  const store = await openStore(addressesOf(flags), 'read');
  try {
    const roots = await Promise.all(named.map((path) => describePath(store, path)));
    const { paths, missing } = await closureOf(roots, (path, signal) =>
      store.pathInfos.describe(path.hash, signal),
    );
    for (const info of paths) process.stdout.write(registration(info));
    refuseMissing(missing, 'references that are not in the store');
  } finally {
    await store.close();
  }
}

/** As `nix-store --dump-db` prints it. */
function registration(info: PathDescription): string {
  const references = sortStorePaths(info.references);
  const lines = [
    info.storePath.absolute(),
    toHex(info.narSha256),
    info.narSize,
    info.deriver ? `${info.deriver.absolute()}.drv` : '',
    references.length,
    ...references.map((path) => path.absolute()),
  ];
  return `${lines.join('\n')}\n`;
}
