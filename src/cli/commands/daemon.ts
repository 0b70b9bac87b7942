import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { messageOf, UsageError } from '../../util/errors.ts';
import type { ListenFlags } from '../run-server.ts';
import { runServer, withListenOptions } from '../run-server.ts';
import type { SigningFlags, StoreFlags } from '../store-options.ts';
import { withStoreOptions } from '../store-options.ts';
import type { UploadFlags } from '../upload-options.ts';
import { uploadRuleOf, withUploadOptions } from '../upload-options.ts';

interface DaemonFlags extends StoreFlags, ListenFlags, UploadFlags, SigningFlags {
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsClientCa?: string;
}

export function daemonCommand(): Command {
  const command = withUploadOptions(withListenOptions(withStoreOptions(new Command('daemon')), '[::]:8000'));
  return command
    .summary('serve the store to others over gRPC')
    .description(
      'Serves the store over gRPC until SIGINT or SIGTERM: blobs, directories and path infos, under the package\n' +
        'names of tvix and of snix, with reflection and health.',
    )
    .option('--tls-cert <file>', 'certificate chain, PEM')
    .option('--tls-key <file>', 'its key, PEM')
    .option('--tls-client-ca <file>', 'let in only clients with a certificate of this authority')
    .addHelpText(
      'after',
      '\nExample:\n  tvix-store daemon -l /run/tvix-store.sock --socket-mode 0660\n' +
        '  tvix-store mount --store grpc+unix:///run/tvix-store.sock /nix/store',
    )
    .action(run);
}

async function run(flags: DaemonFlags): Promise<void> {
  const tls = tlsOf(flags);
  const uploads = uploadRuleOf(flags);
  await runServer(flags, async (store, listening) => {
    // The server's packages are not loaded by commands that do without.
    const { serveGrpc } = await import('../../server/grpc/server.ts');
    return serveGrpc({ store, ...listening, tls, uploads });
  });
}

function tlsOf(flags: DaemonFlags) {
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
