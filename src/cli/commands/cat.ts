import { pipeline } from 'node:stream/promises';
import { Command } from 'commander';
import { openStore } from '../../store/open/open-store.ts';
import { fileContents, resolveNode } from '../../store/resolve.ts';
import { invalid } from '../../util/errors.ts';
import type { StoreFlags } from '../store-options.ts';
import { addressesOf, withStoreOptions } from '../store-options.ts';

export function catCommand(): Command {
  return withStoreOptions(new Command('cat'))
    .summary('print the contents of a file in the store')
    .description('Prints the contents of a file in the store.')
    .argument('<STORE_PATH/SUB>', 'the file; /nix/store/ may be left out, a bare hash will do')
    .addHelpText('after', '\nExample:\n  tvix-store cat 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir/a_file')
    .action(run);
}

async function run(argument: string, flags: StoreFlags): Promise<void> {
  const store = await openStore(addressesOf(flags), 'read');
  try {
    const { node } = await resolveNode(store, argument);
    if (node.kind !== 'file') throw invalid(`${argument} is a ${node.kind}, not a file`);
    await pipeline(await fileContents(store, node), process.stdout, { end: false });
  } finally {
    await store.close();
  }
}
