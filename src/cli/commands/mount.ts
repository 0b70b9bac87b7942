import { Command, Option } from 'commander';
import type { DriverName } from '../../mount/mount.ts';
import { DRIVERS, mountStore } from '../../mount/mount.ts';
import { toFields, toJson } from '../../mount/statistics.ts';
import { openStore } from '../../store/store.ts';
import { log } from '../../util/log.ts';
import { notifySystemd } from '../../util/systemd.ts';
import { numberArgument } from '../arguments.ts';
import type { StoreFlags } from '../store-options.ts';
import { addressesOf, storeName, withStoreOptions } from '../store-options.ts';

interface Flags extends StoreFlags {
  readonly driver: DriverName;
  readonly listRoot?: boolean;
  readonly showXattr?: boolean;
  readonly allowOther?: boolean;
  readonly readers: number;
  readonly timeout: number;
  readonly offline?: boolean;
  readonly json?: boolean;
  readonly verify: 'chunks' | 'whole';
}

export function mountCommand(): Command {
  return withStoreOptions(new Command('mount'))
    .summary('mount the store as a read-only file system')
    .description(
      'Mounts the store at a directory, usually /nix/store, and serves it until SIGINT or SIGTERM.\n' +
        'Contents are read when somebody asks for them. From a store that is not on this machine, they are\n' +
        'fetched once and kept in the cache.',
    )
    .argument('<directory>', 'where to mount')
    .addOption(
      new Option('--driver <name>', 'how to speak to the kernel')
        .choices(Object.keys(DRIVERS))
        .default('kernel'),
    )
    .option('--list-root', 'let the root be listed (else ls of it says "Operation not permitted")')
    .option('--show-xattr', 'show castore digests as extended attributes; asking for them costs a request')
    .option('--allow-other', 'let other users in (needs root, or user_allow_other in /etc/fuse.conf)')
    .addOption(
      new Option('--readers <n>', 'threads that serve the kernel')
        .argParser(numberArgument(1, 16))
        .default(1),
    )
    .option('--json', 'print statistics as JSON as well, at the end and at SIGUSR1')
    .option('--offline', 'serve what the cache holds, without asking the store')
    .addOption(
      new Option(
        '--verify <what>',
        'serve a large file by checked chunks, or only when the whole has been checked',
      )
        .choices(['chunks', 'whole'])
        .default('chunks'),
    )
    .addOption(
      new Option('--timeout <seconds>', 'a read fails when nothing has arrived for so long')
        .argParser(numberArgument(1, 86_400))
        .default(30),
    )
    .addHelpText('after', '\nExample:\n  tvix-store mount --list-root /mnt')
    .action(run);
}

/** Stands for the store when nobody is to be asked. */
const NOWHERE = { blobs: 'memory:', directories: 'memory:', pathInfos: 'memory:', composition: undefined };

async function run(directory: string, flags: Flags): Promise<void> {
  const store = await openStore({ ...addressesOf(flags), ...(flags.offline ? NOWHERE : {}) }, 'write');
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => stop.abort());
  try {
    const mount = await mountStore({
      mountPoint: directory,
      driver: flags.driver,
      store,
      storeName: storeName(flags),
      cacheDir: flags.cache,
      listRoot: flags.listRoot ?? false,
      showXattr: flags.showXattr ?? false,
      allowOther: flags.allowOther ?? false,
      readers: flags.readers,
      timeoutMs: flags.timeout * 1000,
      offline: flags.offline ?? false,
      verifyWhole: flags.verify === 'whole',
    });
    stop.signal.addEventListener('abort', () => void mount.stop());
    // A signal may have come while it was being mounted.
    if (stop.signal.aborted) void mount.stop();
    log.info('mounted', { at: mount.mountPoint, store: flags.offline ? flags.cache : storeName(flags) });
    notifySystemd('READY=1');
    const tell = (what: string) => {
      const [statistics, fetched] = [mount.statistics(), mount.fetched()];
      if (flags.json) process.stdout.write(`${JSON.stringify(toJson(statistics, fetched))}\n`);
      log.info(what, toFields(statistics, fetched));
    };
    process.on('SIGUSR1', () => tell('so far'));
    await mount.closed;
    notifySystemd('STOPPING=1');
    tell('unmounted');
  } finally {
    await store.close();
  }
  // The threads of fuse-native would keep the process.
  if (flags.driver === 'fuse-native') process.exit(0);
}
