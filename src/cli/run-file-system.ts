import { addAbortListener } from 'node:events';
import { Option } from 'commander';
import type { ServedStore, ServeOptions } from '../mount/serve-store.ts';
import { toFields, toJson } from '../mount/statistics.ts';
import { examinedStore, HealthCheck } from '../server/health.ts';
import type { Watching } from '../server/metrics/listener.ts';
import type { Addresses } from '../store/open/open-store.ts';
import { NOWHERE, openStore } from '../store/open/open-store.ts';
import type { OpenedStore } from '../store/services.ts';
import { containFaults } from '../util/async/fault-domain.ts';
import { StoreError, UsageError } from '../util/errors.ts';
import type { Fields } from '../util/log.ts';
import { log, neverWaitToLog } from '../util/log.ts';
import { groupNumber, userNumber } from '../util/system/accounts.ts';
import { letThrough } from '../util/system/signal-mask.ts';
import { notifySystemd } from '../util/system/systemd.ts';
import { accountArgument, durationArgument } from './arguments.ts';
import { announce, onAbandoned, waitedForServer, withBackgroundOptions } from './background.ts';
import type { CacheSizeFlags } from './cache-size.ts';
import { withCacheSize } from './cache-size.ts';
import type { Command } from './command.ts';
import { endProcess } from './end.ts';
import type { KeepFreeFlags } from './keep-free.ts';
import { withKeepFree } from './keep-free.ts';
import { localStoreDirectory } from './local-store.ts';
import type { MetricsFlags } from './metrics-options.ts';
import { beginWatching, withMetricsOptions } from './metrics-options.ts';
import { printWhileServing } from './output.ts';
import { onStopSignals } from './stop-signals.ts';
import type { ReadFlags } from './store-options.ts';
import { addressesOf, storeName, withReadOptions } from './store-options.ts';
import { tellSystemd } from './tell-systemd.ts';

/** Flags of the commands that serve the store to a kernel, this machine's or another's. */
export interface FileSystemFlags extends ReadFlags, MetricsFlags, KeepFreeFlags, CacheSizeFlags {
  readonly listRoot?: boolean;
  readonly showXattr?: boolean;
  readonly inodes?: '32' | '64';
  readonly uid?: number;
  readonly gid?: number;
  /** In seconds. */
  readonly timeout?: number;
  readonly hard?: boolean;
  readonly offline?: boolean;
  readonly verify?: 'chunks' | 'whole';
  readonly prefetch?: boolean;
}

const DEFAULT_TIMEOUT_S = 30;

/** Adds them to a command. */
export function withFileSystemOptions(command: Command): Command {
  return withMetricsOptions(withCacheSize(withKeepFree(withBackgroundOptions(withReadOptions(command)))))
    .option('--list-root', 'allow listing the root (otherwise ls of it fails with "Operation not permitted")')
    .option('--show-xattr', 'show castore digests as extended attributes; reading them costs a request each')
    .addOption(
      new Option(
        '--inodes <bits>',
        'bits of inode numbers; 32 for 32-bit programs that know no larger ones (default: "64")',
      ).choices(['32', '64']),
    )
    .addOption(
      new Option('--uid <user>', 'who owns everything, by name or number (default: root)').argParser(
        accountArgument('user', userNumber),
      ),
    )
    .addOption(
      new Option('--gid <group>', 'the group of everything, by name or number (default: root)').argParser(
        accountArgument('group', groupNumber),
      ),
    )
    .option('--json', 'also print statistics as JSON, at the end and on SIGUSR1')
    .option('--offline', 'serve only what the cache holds, without asking the store')
    .addOption(
      new Option(
        '--verify <what>',
        'serve a large file in verified chunks, or only after the whole file has been verified (default: "chunks")',
      ).choices(['chunks', 'whole']),
    )
    .option(
      '--prefetch',
      'when a store path is entered, fetch what has been needed first of it, by its profile',
    )
    .addOption(
      new Option(
        '--timeout <duration>',
        `fail a read when nothing has arrived for this long: 30s, 5m; 0 for never (default: ${DEFAULT_TIMEOUT_S}s)`,
      ).argParser(timeoutArgument),
    )
    .addOption(
      new Option('--hard', 'let reads wait for as long as the store is away, as --timeout 0 does').conflicts(
        'timeout',
      ),
    );
}

const aTimeout = durationArgument('1s', '1d');

function timeoutArgument(text: string): number {
  return /^0+[a-z]?$/.test(text) ? 0 : aTimeout(text);
}

/** How long a read waits while nothing arrives, in milliseconds. */
function timeoutOf({ hard, timeout = hard ? 0 : DEFAULT_TIMEOUT_S }: FileSystemFlags): number {
  return timeout === 0 ? Number.POSITIVE_INFINITY : timeout * 1000;
}

/** Log lines for the beginning and the end. */
export interface Words<Served> {
  readonly begun: string;
  readonly where: (served: Served) => Fields;
  readonly ended: string;
}

/** Opens a store that is only read, which waits for no writer; where there is none, it is made. */
async function openThere(addresses: Addresses): Promise<OpenedStore> {
  try {
    return await openStore(addresses, 'read');
  } catch (error) {
    if (!(error instanceof StoreError && error.code === 'NOT_FOUND')) throw error;
    return openStore(addresses, 'write');
  }
}

/** Flags about what is fetched. */
const FETCHING: Record<string, string> = {
  offline: '--offline',
  cacheSize: '--cache-size',
  keepFree: '--keep-free',
  timeout: '--timeout',
  hard: '--hard',
  verify: '--verify',
  prefetch: '--prefetch',
};

/** Throws a UsageError for flags that would do nothing. */
function refuse(flags: FileSystemFlags, names: readonly string[], why: string): void {
  const given = names.find((name) => flags[name as keyof FileSystemFlags] !== undefined);
  if (given) throw new UsageError(`${FETCHING[given]} has no effect here: ${why}`);
}

/** Serves the store that the flags name until a signal or somebody else ends it. */
export async function runFileSystem<Served extends ServedStore>(
  flags: FileSystemFlags,
  words: Words<Served>,
  serve: (options: ServeOptions) => Promise<Served>,
): Promise<void> {
  const onThisMachine = `${storeName(flags)} is on this machine`;
  if (await waitedForServer(flags)) return;
  if (localStoreDirectory(flags) !== undefined) refuse(flags, Object.keys(FETCHING), onThisMachine);
  if (flags.offline)
    refuse(
      flags,
      ['cacheSize', 'keepFree', 'timeout', 'hard', 'verify', 'prefetch'],
      'nothing is fetched with --offline',
    );
  containFaults();
  neverWaitToLog();
  let served: Served | undefined;
  const tell = (what: string) => {
    if (!served) return;
    const [statistics, fetched] = [served.statistics(), served.fetched()];
    if (flags.json) printWhileServing(JSON.stringify(toJson(statistics, fetched)));
    log.info(what, toFields(statistics, fetched));
  };
  process.on('SIGUSR1', () => tell('so far'));
  letThrough('SIGUSR1');
  const timeoutMs = timeoutOf(flags);
  const patience = { awayMs: timeoutMs };
  // Nobody who lists the root is to wait for whole paths.
  const addresses = { ...addressesOf(flags), patience, listsBelieved: true };
  const store = await openThere({ ...addresses, ...(flags.offline ? NOWHERE : {}) });
  const stop = new AbortController();
  onStopSignals(() => stop.abort());
  onAbandoned(() => stop.abort());
  const health = new HealthCheck();
  let watching: Watching | undefined;
  try {
    // Whoever wanted it may have gone while the store was opened.
    if (stop.signal.aborted) return;
    if (store.local) refuse(flags, Object.keys(FETCHING), onThisMachine);
    // Before there is a mount, which could hide what is loaded for it.
    watching = await beginWatching(flags, health);
    served = await serve({
      store,
      storeName: storeName(flags),
      cacheDir: addresses.cacheDir,
      cacheSize: flags.cacheSize,
      keepsFree: flags.keepFree !== undefined,
      listRoot: flags.listRoot ?? false,
      showXattr: flags.showXattr ?? false,
      inodeBits: flags.inodes === '32' ? 32 : 64,
      owner: { uid: flags.uid ?? 0, gid: flags.gid ?? 0 },
      timeoutMs,
      offline: flags.offline ?? false,
      trustedKeys: flags.trustedPublicKeys,
      verifyWhole: flags.verify === 'whole',
      prefetch: flags.prefetch ?? false,
    });
    watching?.fileSystem(served);
    // At once, if a signal has come while it began.
    addAbortListener(stop.signal, () => void served?.stop());
    try {
      const of = flags.offline ? flags.cache : storeName(flags);
      await announce(words.begun, { ...words.where(served), store: of }, flags);
    } catch (error) {
      await served.stop();
      throw error;
    }
    const { responds } = served;
    health.begin({ ...examinedStore(store), responds });
    notifySystemd('READY=1');
    tellSystemd(health);
    try {
      await served.closed;
    } finally {
      health.stop();
      notifySystemd('STOPPING=1');
      tell(words.ended);
    }
  } finally {
    await watching?.stop();
    await store.close();
  }
  // The threads of fuse-native would keep the process, and so would a write that waits for another one's.
  endProcess(Number(process.exitCode ?? 0));
}
