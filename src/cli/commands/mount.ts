import { Option } from 'commander';
import type { DriverName, Mount } from '../../mount/mount.ts';
import { DRIVERS, mountStore } from '../../mount/mount.ts';
import { UsageError } from '../../util/errors.ts';
import { numberArgument } from '../arguments.ts';
import { Command } from '../command.ts';
import type { FileSystemFlags } from '../run-file-system.ts';
import { runFileSystem, withFileSystemOptions } from '../run-file-system.ts';

interface MountFlags extends FileSystemFlags {
  readonly driver: DriverName;
  readonly allowOther?: boolean;
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

async function run(directory: string, flags: MountFlags): Promise<void> {
  if (flags.driver !== 'kernel' && flags.readers !== undefined)
    throw new UsageError(
      '--readers has no effect with --driver fuse-native, which has no threads of its own',
    );
  const words = { begun: 'mounted', ended: 'unmounted', where: (mount: Mount) => ({ at: mount.mountPoint }) };
  await runFileSystem(flags, words, (options) =>
    mountStore({
      ...options,
      mountPoint: directory,
      driver: flags.driver,
      allowOther: flags.allowOther ?? false,
      readers: flags.readers ?? 1,
    }),
  );
}
