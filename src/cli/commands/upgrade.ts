import { existsSync } from 'node:fs';
import { databasePath } from '../../castore/local/database.ts';
import { FORMAT, upgradeStore } from '../../castore/local/format.ts';
import { StoreError, UsageError } from '../../util/errors.ts';
import { Command } from '../command.ts';
import { localStoreDirectory } from '../local-store.ts';
import type { StoreFlags } from '../store-options.ts';
import { withStoreOptions } from '../store-options.ts';

export function upgradeCommand(): Command {
  return withStoreOptions(new Command('upgrade'))
    .summary("convert a local store to this version's format")
    .description(
      'Converts a local store that an earlier version made to the format that this one reads and writes. Nobody else may ' +
        'have the store open. It happens as a whole or not at all, and there is no way back: make a backup first.',
    )
    .example('tvix-store upgrade --store local:///var/lib/tvix-store')
    .action(run);
}

async function run(flags: StoreFlags): Promise<void> {
  const dir = localStoreDirectory(flags);
  if (dir === undefined) throw new UsageError(`this works on a local store only, not on ${flags.store}`);
  if (!existsSync(databasePath(dir))) throw new StoreError('NOT_FOUND', `there is no store in ${dir}`);
  const found = await upgradeStore(dir);
  process.stdout.write(
    found === FORMAT
      ? `the store in ${dir} has format ${FORMAT} already\n`
      : `the store in ${dir} had format ${found} and has ${FORMAT} now\n`,
  );
}
