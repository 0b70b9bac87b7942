import { pipeline } from 'node:stream/promises';
import { parsePlace, STORE_PATH_FORMS } from '../../store/named-path.ts';
import { openStore } from '../../store/open/open-store.ts';
import { fileContents, resolveNode } from '../../store/resolve.ts';
import { invalid } from '../../util/errors.ts';
import { Command } from '../command.ts';
import type { ReadFlags } from '../store-options.ts';
import { addressesOf, withReadOptions } from '../store-options.ts';

export function catCommand(): Command {
  return withReadOptions(new Command('cat'))
    .summary('print a file that is in the store')
    .description('Prints the contents of a file that is in the store.')
    .argument('<STORE_PATH/SUB>', `the file, below ${STORE_PATH_FORMS}`)
    .example('tvix-store cat 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir/a_file')
    .action(run);
}

async function run(argument: string, flags: ReadFlags): Promise<void> {
  const place = parsePlace(argument);
  const store = await openStore(addressesOf(flags), 'read');
  try {
    const { node } = await resolveNode(store, place);
    if (node.kind !== 'file') throw invalid(`${argument} is a ${node.kind}, not a file`);
    await pipeline(await fileContents(store, node), process.stdout, { end: false });
  } finally {
    await store.close();
  }
}
