import { Option } from 'commander';
import { sizeArgument } from './arguments.ts';
import type { Command } from './command.ts';

export interface CacheSizeFlags {
  readonly cacheSize?: number;
}

/** Adds to a command that keeps what it fetches how large that may get. */
export function withCacheSize<C extends Command>(command: C): C {
  return command.addOption(
    new Option(
      '--cache-size <size>',
      'keep the cache no larger than this: 500M, 20G (default: no limit)',
    ).argParser(sizeArgument),
  );
}
