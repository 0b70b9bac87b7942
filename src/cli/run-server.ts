import { Option } from 'commander';
import { examinedStore, HealthCheck } from '../server/health.ts';
import type { RunningServer } from '../server/listen.ts';
import type { Watching } from '../server/metrics/listener.ts';
import { openStore } from '../store/open/open-store.ts';
import type { OpenedStore } from '../store/services.ts';
import { containFaults } from '../util/async/fault-domain.ts';
import { DEFAULT_PATIENCE } from '../util/async/retry.ts';
import type { ListenAddress, SocketOwnership } from '../util/listen-address.ts';
import { parseListenAddress } from '../util/listen-address.ts';
import { log, neverWaitToLog } from '../util/log.ts';
import { giveBackFreedMemory } from '../util/system/freed-memory.ts';
import { notifySystemd } from '../util/system/systemd.ts';
import { MAX_ID, numberArgument, sizeArgument, socketModeOption } from './arguments.ts';
import { announce, refuseInBackground, waitedForServer, withBackgroundOptions } from './background.ts';
import type { CacheSizeFlags } from './cache-size.ts';
import { withCacheSize } from './cache-size.ts';
import type { Command } from './command.ts';
import { endProcess } from './end.ts';
import type { KeepFreeFlags } from './keep-free.ts';
import { withKeepFree } from './keep-free.ts';
import type { MetricsFlags } from './metrics-options.ts';
import { beginWatching, withMetricsOptions } from './metrics-options.ts';
import type { SocketFlags } from './socket-ownership.ts';
import { socketOwnership } from './socket-ownership.ts';
import { onStopSignals } from './stop-signals.ts';
import type { ReadFlags, SigningFlags } from './store-options.ts';
import { addressesOf, storeName } from './store-options.ts';
import { tellSystemd } from './tell-systemd.ts';

/** Flags that say where a server listens. */
export interface ListenFlags extends SocketFlags, MetricsFlags, KeepFreeFlags, CacheSizeFlags {
  readonly listenAddress: string;
  /** Bytes. */
  readonly maxMemory?: number;
}

/** Adds the flags that say where to listen to a command. */
export function withListenOptions(command: Command, address: string): Command {
  return withMetricsOptions(withCacheSize(withKeepFree(withBackgroundOptions(command))))
    .option(
      '-l, --listen-address <address>',
      'where to listen: host:port, [v6]:port, /path, ./path, @abstract, sd-listen or sd-listen:NAME',
      address,
    )
    .addOption(
      new Option(
        '--max-memory <size>',
        'what requests and answers may take in memory together, such as 200M; one client gets three quarters (default: 48M)',
      ).argParser(sizeArgument),
    )
    .addOption(socketModeOption())
    .addOption(
      new Option('--socket-uid <n>', 'numeric owner of the unix socket').argParser(numberArgument(0, MAX_ID)),
    )
    .addOption(
      new Option('--socket-gid <n>', 'numeric group of the unix socket').argParser(numberArgument(0, MAX_ID)),
    );
}

/** Opens the store, starts a server over it, and lets that run until a signal ends it. */
export async function runServer(
  flags: ReadFlags & SigningFlags & ListenFlags,
  start: (
    store: OpenedStore,
    listening: { listen: ListenAddress; ownership: SocketOwnership; maxMemory?: number | undefined },
  ) => Promise<RunningServer>,
): Promise<void> {
  const listen = parseListenAddress(flags.listenAddress);
  const ownership = socketOwnership(listen, flags);
  refuseInBackground(listen, flags);
  if (await waitedForServer(flags)) return;
  containFaults();
  neverWaitToLog();
  giveBackFreedMemory();
  const { keepFree, cacheSize = keepFree === undefined ? undefined : Number.POSITIVE_INFINITY } = flags;
  const addresses = { ...addressesOf(flags), cacheSize, patience: DEFAULT_PATIENCE };
  const store = await openStore(addresses, 'serve');
  const health = new HealthCheck();
  let watching: Watching | undefined;
  try {
    // From here on there is something to be cleaned up.
    const hurry = new AbortController();
    const stop = new Promise<void>((resolve) => onStopSignals(resolve, () => hurry.abort()));
    watching = await beginWatching(flags, health);
    const server = await start(store, { listen, ownership, maxMemory: flags.maxMemory });
    try {
      watching?.server(server, store.here());
      const of = storeName(flags);
      const [first, ...others] = server.addresses;
      await announce('listening', { at: first, store: of }, flags);
      for (const at of others) log.info('listening', { at, store: of });
      health.begin(examinedStore(store));
      notifySystemd('READY=1');
      tellSystemd(health);
      await stop;
      health.stop();
      log.info('stopping');
      notifySystemd('STOPPING=1');
    } finally {
      await server.stop(hurry.signal);
    }
  } finally {
    await watching?.stop();
    await store.close();
  }
  // A write that waits for another process's would keep this one.
  endProcess(Number(process.exitCode ?? 0));
}
