import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { messageOf, UsageError } from '../../util/errors.ts';
import { parseListenAddress } from '../../util/listen-address.ts';
import { log } from '../../util/log.ts';
import { notifySystemd } from '../../util/systemd.ts';
import { numberArgument, socketModeOption } from '../arguments.ts';
import type { SigningFlags, StoreFlags } from '../store-options.ts';
import { openSigning, signingOption, storeName, withStoreOptions } from '../store-options.ts';

interface Flags extends StoreFlags, SigningFlags {
  readonly listenAddress: string;
  readonly socketMode?: number;
  readonly socketUid?: number;
  readonly socketGid?: number;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsClientCa?: string;
}

const MAX_ID = 2 ** 32 - 2;

export function daemonCommand(): Command {
  return withStoreOptions(new Command('daemon'))
    .summary('serve the store to others over gRPC')
    .description(
      'Serves the store over gRPC until SIGINT or SIGTERM: blobs, directories and path infos, under the package\n' +
        'names of tvix and of snix, with reflection and health.',
    )
    .option(
      '-l, --listen-address <address>',
      'host:port, [v6]:port, /path, @abstract or sd-listen',
      '[::]:8000',
    )
    .addOption(socketModeOption())
    .addOption(
      new Option('--socket-uid <n>', 'owner of the unix socket').argParser(numberArgument(0, MAX_ID)),
    )
    .addOption(
      new Option('--socket-gid <n>', 'group of the unix socket').argParser(numberArgument(0, MAX_ID)),
    )
    .option('--tls-cert <file>', 'certificate chain, PEM')
    .option('--tls-key <file>', 'its key, PEM')
    .option('--tls-client-ca <file>', 'let in only clients with a certificate of this authority')
    .addOption(signingOption())
    .addHelpText(
      'after',
      '\nExample:\n  tvix-store daemon -l /run/tvix-store.sock --socket-mode 0660\n' +
        '  tvix-store mount --store grpc+unix:///run/tvix-store.sock /nix/store',
    )
    .action(run);
}

async function run(flags: Flags): Promise<void> {
  const address = parseListenAddress(flags.listenAddress);
  const tls = tlsOf(flags);
  // The server's packages are not loaded by commands that do without.
  const { serveGrpc } = await import('../../server/grpc/server.ts');
  const store = await openSigning(flags);
  try {
    const server = await serveGrpc({
      store,
      listen: address,
      ownership: { mode: flags.socketMode, uid: flags.socketUid, gid: flags.socketGid },
      tls,
    });
    const stop = new Promise<void>((resolve) => {
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve());
    });
    for (const at of server.addresses) log.info('listening', { at, store: storeName(flags) });
    notifySystemd('READY=1');
    await stop;
    log.info('stopping');
    notifySystemd('STOPPING=1');
    await server.stop();
  } finally {
    await store.close();
  }
}

function tlsOf(flags: Flags) {
  if ((flags.tlsCert === undefined) !== (flags.tlsKey === undefined)) {
    throw new UsageError('--tls-cert and --tls-key go together');
  }
  if (flags.tlsClientCa !== undefined && flags.tlsCert === undefined) {
    throw new UsageError('--tls-client-ca goes with --tls-cert and --tls-key');
  }
  if (flags.tlsCert === undefined) return undefined;
  return {
    cert: read(flags.tlsCert, '--tls-cert'),
    key: read(flags.tlsKey!, '--tls-key'),
    clientCa: flags.tlsClientCa === undefined ? undefined : read(flags.tlsClientCa, '--tls-client-ca'),
  };
}

function read(path: string, flag: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new UsageError(`cannot read ${flag}: ${messageOf(error)}`, { cause: error });
  }
}
