import type { AccessFlags } from '../access-options.ts';
import { accessRuleOf, withAccessOptions } from '../access-options.ts';
import { Command } from '../command.ts';
import type { ListenFlags } from '../run-server.ts';
import { runServer, withListenOptions } from '../run-server.ts';
import type { ReadFlags, SigningFlags } from '../store-options.ts';
import { withReadOptions } from '../store-options.ts';
import type { TlsFlags } from '../tls-options.ts';
import { tlsOf, withTlsOptions } from '../tls-options.ts';

type DaemonFlags = ReadFlags & ListenFlags & AccessFlags & TlsFlags & SigningFlags;

export function daemonCommand(): Command {
  return withTlsOptions(
    withAccessOptions(withListenOptions(withReadOptions(new Command('daemon')), '[::]:8000')),
  )
    .summary('serve the store to others over gRPC')
    .description(
      'Serves the blobs, directories and path infos of the store over gRPC until SIGINT, SIGTERM or SIGHUP. It answers ' +
        'under the package names of tvix and of snix, and offers reflection and health checks. Everybody may read; who ' +
        'may upload, and who else, --tokens says. Without it, only those may upload who come through a unix socket.',
    )
    .example(
      'tvix-store daemon -l /run/tvix-store.sock --socket-mode 0660',
      'tvix-store mount --store grpc+unix:///run/tvix-store.sock /nix/store',
    )
    .action(run);
}

async function run(flags: DaemonFlags): Promise<void> {
  const tls = tlsOf(flags);
  const access = accessRuleOf(flags);
  await runServer(flags, async (store, listening) => {
    // The server's packages are not loaded by commands that do without.
    const { serveGrpc } = await import('../../server/grpc/server.ts');
    return serveGrpc({ store, ...listening, tls, access });
  });
}
