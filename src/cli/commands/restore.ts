import { Command } from '../command.ts';
import { backupPlace, copyAll, ownDirectory, refuseOthers } from '../everything.ts';
import { withKeepFree } from '../keep-free.ts';
import type { StoreFlags } from '../store-options.ts';
import { withStoreOptions } from '../store-options.ts';

interface RestoreFlags extends StoreFlags {
  readonly from: string;
  readonly json?: boolean;
}

export function restoreCommand(): Command {
  return withKeepFree(withStoreOptions(new Command('restore')))
    .summary('copy a backup back into a local store')
    .description(
      'Copies all store paths and roots of a backup into a local store, which is made if it is not there, and keeps ' +
        'what else that holds. A backup is what "tvix-store backup" made, or a copy of the directory of a store, in ' +
        'whatever order its files were copied. Everything is hashed on the way; what is damaged, or is referred to ' +
        'and missing, is named, and it ends with exit code 1 then.',
    )
    .requiredOption('--from <dir>', 'the directory or the file of the backup')
    .option('--json', 'print one JSON object')
    .example('tvix-store restore --from /mnt/backup/tvix-store')
    .action(async (flags: RestoreFlags) => {
      const to = ownDirectory(flags);
      const from = backupPlace(flags.from, to.path);
      refuseOthers(to);
      const options = { from, to, verb: 'restored', json: flags.json ?? false };
      const { damaged, missing } = await copyAll(options, flags);
      if (damaged.length + missing.length > 0) process.exitCode = 1;
    });
}
