import { Command } from '../command.ts';
import { backupPlace, copyAll, ownDirectory, refuseOthers } from '../everything.ts';
import { withKeepFree } from '../keep-free.ts';
import type { StoreFlags } from '../store-options.ts';
import { withStoreOptions } from '../store-options.ts';

interface BackupFlags extends StoreFlags {
  readonly to: string;
  readonly json?: boolean;
}

export function backupCommand(): Command {
  return withKeepFree(withStoreOptions(new Command('backup')))
    .summary('copy all of a local store to another directory, or to a file')
    .description(
      'Copies all store paths of a local store, and its roots, to a directory or a file: what has come since the last ' +
        'backup there, and to a directory also what that one has lost. The store may be in use. Everything is hashed on the way; store paths ' +
        'that are damaged are named, and left out, and it ends with exit code 1 then. A directory is a local store ' +
        'itself: it can be listed, mounted, checked and collected. "tvix-store restore" copies it back.',
    )
    .requiredOption(
      '--to <dir>',
      'the directory of the backup, or a file whose name ends in .backup; it is made if it is not there',
    )
    .option('--json', 'print one JSON object')
    .example(
      'tvix-store backup --to /mnt/backup/tvix-store',
      'tvix-store backup --to /mnt/backup/store.backup',
    )
    .action(async (flags: BackupFlags) => {
      const from = ownDirectory(flags);
      const to = backupPlace(flags.to, from.path);
      refuseOthers(to);
      const { damaged } = await copyAll({ from, to, verb: 'copied', json: flags.json ?? false }, flags);
      if (damaged.length > 0) process.exitCode = 1;
    });
}
