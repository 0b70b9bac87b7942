import { parseArgs } from 'node:util';
import { NAME, parseMountOptions, splitOptions } from '../fuse/mount-options.ts';
import { argument } from './arguments.ts';
import { mountCommand } from './commands/mount.ts';

/**
 * What mount(8) and fstab(5) keep for themselves; some programs pass them on all the same. The store is never `rw`, and
 * has no use for `dev` and `suid`, which the helper of fuse3 adds, nor for what is said of writing and of times.
 */
const NOT_OURS =
  /^(?:rw|dev|suid|defaults|auto|noauto|(?:no)?users?|user=.*|(?:no)?owner|(?:no)?group|nofail|_netdev|comment=.*|x-.*|a?sync|dirsync|(?:dir)?atime|(?:no)?(?:relatime|strictatime|lazytime|iversion|mand)|silent|loud)$/i;

/**
 * The arguments of `tvix-store` for those that mount(8) gives to `mount.fuse.tvix-store`, and the helper of fuse3 to
 * `tvix-store` itself: SOURCE DIRECTORY
 * [-sfnv] [-t TYPE] [-o OPTIONS]. The source is the address of a store, and among the options may stand the flags of
 * `tvix-store mount`, without their dashes. `undefined` when it is only asked whether that would work.
 */
export function helperArguments(args: readonly string[]): string[] | undefined {
  const { values, positionals } = argument(() =>
    parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        option: { type: 'string', short: 'o', multiple: true },
        type: { type: 'string', short: 't' },
        sloppy: { type: 'boolean', short: 's' },
        fake: { type: 'boolean', short: 'f' },
        'no-mtab': { type: 'boolean', short: 'n' },
        verbose: { type: 'boolean', short: 'v' },
      },
    }),
  );
  if (values.fake) return undefined;
  const [source, ...directory] = positionals;
  const flags = mountCommand().options.flatMap(({ long }) => long ?? []);
  const ours: string[] = [];
  const others: string[] = [];
  for (const option of (values.option ?? []).flatMap(splitOptions)) {
    if (NOT_OURS.test(option)) continue;
    const flag = `--${option}`;
    if (flags.includes(flag.split('=', 1)[0]!)) ours.push(flag);
    else if (!values.sloppy || isKnown(option)) others.push(option);
  }
  const isAddress = source !== undefined && source !== 'none' && source !== NAME;
  return [
    'mount',
    '--background',
    ...(isAddress ? ['--store', source] : []),
    // By its source mount(8) knows what is mounted already.
    ...(source === undefined ? [] : ['-o', `fsname="${source}"`]),
    ...ours,
    ...others.flatMap((option) => ['-o', option]),
    '--',
    ...directory,
  ];
}

function isKnown(option: string): boolean {
  try {
    parseMountOptions([option]);
    return true;
  } catch {
    return false;
  }
}
