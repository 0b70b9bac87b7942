import type { SecureContextOptions } from 'node:tls';
import { createSecureContext } from 'node:tls';
import type { TlsFiles } from '../../server/grpc/server.ts';
import { reasonOf, UsageError } from '../../util/errors.ts';
import { FreshFiles } from '../../util/system/fresh-files.ts';
import { Command } from '../command.ts';
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
      'Serves the blobs, directories and path infos of the store over gRPC until SIGINT, SIGTERM or SIGHUP. It answers ' +
        'under the package names of tvix and of snix, and offers reflection and health checks. Whoever can connect can ' +
        'read everything; without other flags, clients on this machine may upload.',
    )
    .option('--tls-cert <file>', 'serve over TLS with this certificate chain (PEM)')
    .option('--tls-key <file>', 'the private key of the certificate (PEM)')
    .option('--tls-client-ca <file>', 'admit only clients with a certificate from this authority (PEM)')
    .example(
      'tvix-store daemon -l /run/tvix-store.sock --socket-mode 0660',
      'tvix-store mount --store grpc+unix:///run/tvix-store.sock /nix/store',
    )
    .action(run);
}

async function run(flags: DaemonFlags): Promise<void> {
  const tls = tlsOf(flags);
  const uploads = uploadRuleOf(flags);
  await runServer(flags, async (store, listening) => {
    // The server's packages are not loaded by commands that do without.
    const { serveGrpc } = await import('../../server/grpc/server.ts');
    return serveGrpc({ store, ...listening, tls: tls && (() => tls.get()), uploads });
  });
}

/** What is served over TLS with, as the files are now. */
function tlsOf(flags: DaemonFlags): FreshFiles<TlsFiles> | undefined {
  if ((flags.tlsCert === undefined) !== (flags.tlsKey === undefined)) {
    throw new UsageError('--tls-cert and --tls-key go together');
  }
  if (flags.tlsClientCa !== undefined && flags.tlsCert === undefined) {
    throw new UsageError('--tls-client-ca needs --tls-cert and --tls-key');
  }
  if (flags.tlsCert === undefined) return undefined;
  const files = {
    '--tls-cert': flags.tlsCert,
    '--tls-key': flags.tlsKey!,
    '--tls-client-ca': flags.tlsClientCa,
  };
  const paths = Object.values(files).filter((path) => path !== undefined);
  try {
    return new FreshFiles(paths, ([cert, key, clientCa]) => {
      requirePem({ cert }, `--tls-cert ${flags.tlsCert} is not a certificate chain in PEM`);
      requirePem({ cert, key }, `--tls-key ${flags.tlsKey} is not the private key of --tls-cert in PEM`);
      requirePem({ ca: clientCa }, `--tls-client-ca ${flags.tlsClientCa} is not a certificate in PEM`);
      return { cert: cert!, key: key!, clientCa };
    });
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const { path } = error as NodeJS.ErrnoException;
    const [flag] = Object.entries(files).find(([, file]) => file === path) ?? [];
    throw new UsageError(`cannot read ${flag} ${path}: ${reasonOf(error)}`, { cause: error });
  }
}

function requirePem(options: SecureContextOptions, otherwise: string): void {
  try {
    createSecureContext(options);
  } catch (error) {
    throw new UsageError(otherwise, { cause: error });
  }
}
