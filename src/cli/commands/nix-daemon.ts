import { UsageError } from '../../util/errors.ts';
import { Command } from '../command.ts';
import type { ListenFlags } from '../run-server.ts';
import { runServer, withListenOptions } from '../run-server.ts';
import type { ReadFlags, SigningFlags } from '../store-options.ts';
import { signingOption, withReadOptions } from '../store-options.ts';

interface NixDaemonFlags extends ReadFlags, ListenFlags, SigningFlags {
  readonly allowAnonymousUpload?: boolean;
  readonly readOnly?: boolean;
}

export function nixDaemonCommand(): Command {
  return withListenOptions(withReadOptions(new Command('nix-daemon')), '/run/tvix-store/nix.socket')
    .summary('serve the store to Nix by the protocol of its own daemon')
    .description(
      'Serves the store to Nix over a unix socket until SIGINT, SIGTERM or SIGHUP, as unix:///path: to be read and ' +
        'copied from and to, and as the lower store of a local-overlay store, with a mount beside it for the files. ' +
        'Nothing is built. Who can connect may read; root and the user of this process may also write.',
    )
    .option('--allow-anonymous-upload', 'let everybody write who can connect')
    .option('--read-only', 'refuse all uploads')
    .addOption(signingOption())
    .example(
      'tvix-store nix-daemon -l /run/tvix-store/nix.socket',
      'nix path-info -r --store unix:///run/tvix-store/nix.socket /nix/store/…-hello',
    )
    .action(run);
}

async function run(flags: NixDaemonFlags): Promise<void> {
  const { allowAnonymousUpload: anonymous = false, readOnly = false } = flags;
  if (anonymous && readOnly)
    throw new UsageError('--read-only refuses all uploads: leave out --allow-anonymous-upload');
  if (anonymous && flags.signingKeyFile !== undefined)
    throw new UsageError(
      'with --allow-anonymous-upload, anybody could have anything signed by the key in --signing-key-file',
    );
  await runServer(flags, async (store, { listen, ...listening }) => {
    if (listen.kind === 'tcp')
      throw new UsageError('Nix speaks to a daemon only over a unix socket: give -l /path');
    // The server's parts are not loaded by commands that do without.
    const { serveNixDaemon } = await import('../../server/nix-daemon/server.ts');
    const writers = readOnly ? 'nobody' : anonymous ? 'everybody' : 'owners';
    return serveNixDaemon({ store, listen, ...listening, writers });
  });
}
