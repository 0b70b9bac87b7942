import { resolve } from 'node:path';
import { Option } from 'commander';
import { parseMountOptions, splitOptions } from '../../fuse/mount-options.ts';
import type { DriverName, Mount } from '../../mount/mount.ts';
import { DRIVERS, mountStore } from '../../mount/mount.ts';
import { UsageError } from '../../util/errors.ts';
import { numberArgument, parsedBy } from '../arguments.ts';
import { Command } from '../command.ts';
import type { FileSystemFlags } from '../run-file-system.ts';
import { runFileSystem, withFileSystemOptions } from '../run-file-system.ts';

interface MountFlags extends FileSystemFlags {
  readonly driver: DriverName;
  readonly allowOther?: boolean;
  readonly option: readonly string[];
  readonly readers?: number;
}

export function mountCommand(): Command {
  return withFileSystemOptions(new Command('mount'))
    .summary('mount the store as a read-only file system')
    .description(
      'Mounts the store at a directory, usually /nix/store, and serves it until SIGINT, SIGTERM or SIGHUP. Contents are ' +
        'read when somebody asks for them. If the store is not on this machine, they are fetched once and kept ' +
        'in the cache.',
    )
    .argument('<DIRECTORY>', 'where to mount')
    .addOption(
      new Option('--driver <name>', 'how to talk to the kernel')
        .choices(Object.keys(DRIVERS))
        .default('kernel'),
    )
    .option('--allow-other', 'let other users in (needs root, or user_allow_other in /etc/fuse.conf)')
    .addOption(
      new Option('-o, --option <list>', 'options of mount(8), with commas between: noexec,context="…"')
        .argParser(optionsArgument)
        .default([], 'none'),
    )
    .addOption(
      new Option('--readers <n>', 'number of threads that serve the kernel (default: 1)').argParser(
        numberArgument(1, 16),
      ),
    )
    .example(
      'tvix-store mount --list-root /mnt',
      'tvix-store mount --store objectstore+s3://bucket/prefix /nix/store',
    )
    .action(run);
}

/** Adds a list to those before; what they mean is checked at once. */
function optionsArgument(list: string, before: readonly string[]): readonly string[] {
  return parsedBy((text) => {
    const all = [...before, ...splitOptions(text)];
    parseMountOptions(all);
    return all;
  })(list);
}

async function run(directory: string, flags: MountFlags): Promise<void> {
  // Else it would be the working directory: an unset variable in a script.
  if (directory === '') throw new UsageError('DIRECTORY is empty');
  if (flags.driver !== 'kernel' && flags.readers !== undefined)
    throw new UsageError(
      '--readers has no effect with --driver fuse-native, which has no threads of its own',
    );
  const words = { begun: 'mounted', ended: 'unmounted', where: (mount: Mount) => ({ at: mount.mountPoint }) };
  const mountPoint = resolve(directory);
  const mountOptions = parseMountOptions([...flags.option, ...(flags.allowOther ? ['allow_other'] : [])]);
  await runFileSystem(flags, words, (options) => {
    // Where this was started may lie in the mount.
    process.chdir('/');
    return mountStore({
      ...options,
      mountPoint,
      mountOptions,
      driver: flags.driver,
      readers: flags.readers ?? 1,
    });
  });
}
