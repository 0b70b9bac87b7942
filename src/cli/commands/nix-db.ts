import { Command } from 'commander';
import { sortStorePaths } from '../../nix/store-path.ts';
import { closureOf, refuseMissing } from '../../store/moving/closure.ts';
import { openStore } from '../../store/open/open-store.ts';
import type { PathDescription } from '../../store/path-info/path-info.ts';
import { describePath } from '../../store/resolve.ts';
import { toHex } from '../../util/bytes.ts';
import type { StoreFlags } from '../store-options.ts';
import { addressesOf, withStoreOptions } from '../store-options.ts';

export function nixDbCommand(): Command {
  return withStoreOptions(new Command('nix-db'))
    .summary('print what makes store paths valid for Nix')
    .description(
      'Prints the registration of store paths and of all that they refer to, for `nix-store --load-db`: with it\n' +
        'a Nix uses the mount as its store. No contents are fetched. References that are not in the store are\n' +
        'listed at the end, and the exit code is 1; Nix takes what was printed only if it has them.',
    )
    .argument('<STORE_PATH...>', '/nix/store/ may be left out, a bare hash will do')
    .addHelpText(
      'after',
      '\nExample:\n  tvix-store nix-db 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir | nix-store --load-db',
    )
    .action(run);
}

async function run(names: string[], flags: StoreFlags): Promise<void> {
  const store = await openStore(addressesOf(flags), 'read');
  try {
    const roots = await Promise.all(names.map((name) => describePath(store, name)));
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
