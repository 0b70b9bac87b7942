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
    'leave so much free on the disk of a local store or cache, and refuse or evict what would take it: 5G',
  )
    .argParser(sizeArgument)
    .helpGroup(STORE_OPTIONS);
  return command
    .addOption(option)
    .hook('preAction', (_, acting) => setKeepFree(acting.opts<KeepFreeFlags>().keepFree ?? 0));
}
