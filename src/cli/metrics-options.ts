import { Option } from 'commander';
import type { HealthCheck } from '../server/health.ts';
import type { Watching } from '../server/metrics/listener.ts';
import { UsageError } from '../util/errors.ts';
import type { ListenAddress } from '../util/listen-address.ts';
import { parseListenAddress } from '../util/listen-address.ts';
import { log } from '../util/log.ts';
import { parsedBy } from './arguments.ts';
import type { BackgroundFlags } from './background.ts';
import { refuseInBackground } from './background.ts';
import type { Command } from './command.ts';

/** Flags of commands that can be watched. */
export interface MetricsFlags extends BackgroundFlags {
  readonly metricsListen?: ListenAddress;
}

export function withMetricsOptions(command: Command): Command {
  return command.addOption(
    new Option(
      '--metrics-listen <address>',
      'serve /metrics to Prometheus, and /health, to whoever can connect: host:port, [v6]:port, /path, ./path, @abstract or sd-listen:NAME',
    ).argParser(parsedBy(parseListenAddress)),
  );
}

/** Begins to listen for those who watch, if the flags say so. Whatever is to be loaded for that is loaded then. */
export async function beginWatching(flags: MetricsFlags, health: HealthCheck): Promise<Watching | undefined> {
  const { metricsListen } = flags;
  if (!metricsListen) return undefined;
  if (metricsListen.kind === 'systemd' && metricsListen.name === undefined)
    throw new UsageError('--metrics-listen sd-listen would take all sockets: name one, sd-listen:NAME');
  refuseInBackground(metricsListen, flags);
  // The server's packages are not loaded by commands that do without.
  const { Watching } = await import('../server/metrics/listener.ts');
  const watching = await Watching.begin(metricsListen, health);
  for (const at of watching.addresses) log.info('metrics', { at });
  return watching;
}
