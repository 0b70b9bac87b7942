import { Option } from 'commander';
import { setKeepFree } from '../castore/local/reserve.ts';
import { sizeArgument } from './arguments.ts';
import type { Command } from './command.ts';
import { STORE_OPTIONS } from './help.ts';

export interface KeepFreeFlags {
  readonly keepFree?: number;
}

/** Adds to a command that writes into local stores or caches how much is to be left free on their disks. */
export function withKeepFree<C extends Command>(command: C): C {
  const option = new Option(
    '--keep-free <size>',
    'keep at least so much of the disk free, such as 5G: a store refuses what would use it, a cache evicts',
  )
    .argParser(sizeArgument)
    .helpGroup(STORE_OPTIONS);
  return command
    .addOption(option)
    .hook('preAction', (_, acting) => setKeepFree(acting.opts<KeepFreeFlags>().keepFree ?? 0));
}
