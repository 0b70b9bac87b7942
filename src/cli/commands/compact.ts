import { existsSync } from 'node:fs';
import { compactDatabase } from '../../castore/local/compact.ts';
import { databasePath } from '../../castore/local/database.ts';
import { LocalStore } from '../../castore/local/store.ts';
import { formatSize } from '../../util/bytes.ts';
import { StoreError, UsageError } from '../../util/errors.ts';
import { Command } from '../command.ts';
import { localStoreDirectory } from '../local-store.ts';
import type { StoreFlags } from '../store-options.ts';
import { withStoreOptions } from '../store-options.ts';

export function compactCommand(): Command {
  return withStoreOptions(new Command('compact'))
    .summary('give back the room that deleted rows take in the database')
    .description(
      'Writes the database of a local store or cache anew. After much has been deleted its file keeps its size, and new ' +
        'rows use that room; this gives it back to the disk. Nobody else may have the store open, and there must be ' +
        'room for both databases. It happens as a whole or not at all.',
    )
    .option('--json', 'print one JSON object, with sizes in bytes')
    .example('tvix-store compact --store local:///var/lib/tvix-store')
    .action(run);
}

async function run(flags: StoreFlags & { json?: boolean }): Promise<void> {
  const dir = localStoreDirectory(flags);
  if (dir === undefined) throw new UsageError(`this works on a local store only, not on ${flags.store}`);
  if (!existsSync(databasePath(dir))) throw new StoreError('NOT_FOUND', `there is no store in ${dir}`);
  // Whatever else is wrong with it shows here.
  await LocalStore.openToRead(dir).close();
  const sizes = await compactDatabase(dir);
  const text = `the database had ${formatSize(sizes.before)} and has ${formatSize(sizes.after)} now`;
  process.stdout.write(`${flags.json ? JSON.stringify(sizes) : text}\n`);
}
