import { Option } from 'commander';
import { readSecretKeyFile } from '../../nix/key-file.ts';
import { UsageError } from '../../util/errors.ts';
import type { AccessFlags } from '../access-options.ts';
import { accessRuleOf, withAccessOptions } from '../access-options.ts';
import { numberArgument } from '../arguments.ts';
import { Command } from '../command.ts';
import type { ListenFlags } from '../run-server.ts';
import { runServer, withListenOptions } from '../run-server.ts';
import type { ReadFlags, SigningFlags } from '../store-options.ts';
import { withReadOptions } from '../store-options.ts';
import type { TlsFlags } from '../tls-options.ts';
import { tlsOf, withTlsOptions } from '../tls-options.ts';

interface NarBridgeFlags extends ReadFlags, ListenFlags, AccessFlags, TlsFlags, SigningFlags {
  readonly priority: number;
  readonly compress?: 'zstd';
  readonly serveSigningKeyFile: readonly string[];
}

/** One better than cache.nixos.org. */
const PRIORITY = 39;
const MAX_PRIORITY = 2 ** 31 - 1;

export function narBridgeCommand(): Command {
  return withTlsOptions(
    withAccessOptions(withListenOptions(withReadOptions(new Command('nar-bridge')), '[::]:9000')),
  )
    .summary('serve the store to Nix, as a binary cache')
    .description(
      'Serves the store over HTTP as a binary cache for Nix until SIGINT, SIGTERM or SIGHUP: a substituter, and a place ' +
        'to nix copy to and from. Everybody may read; who may upload, and who else, --tokens says. Without it, only ' +
        'those may upload who come through a unix socket.',
    )
    .addOption(
      new Option('--priority <n>', 'priority of this cache; Nix asks caches with lower numbers first')
        .default(PRIORITY)
        .argParser(numberArgument(0, MAX_PRIORITY)),
    )
    .addOption(
      new Option(
        '--compress <how>',
        'compress NARs for clients that accept it, which then cannot resume downloads',
      ).choices(['zstd']),
    )
    .addOption(
      new Option(
        '--serve-signing-key-file <file>',
        'sign what is served with this secret key, too, once its contents have been verified; given again, with another one as well',
      )
        .default([], 'none')
        .argParser((file: string, before: readonly string[]) => [...before, file]),
    )
    .example(
      'tvix-store nar-bridge -l 127.0.0.1:9000 --allow-anonymous-upload',
      "nix copy --to 'http://127.0.0.1:9000?compression=none' /nix/store/…-hello",
    )
    .action(run);
}

async function run(flags: NarBridgeFlags): Promise<void> {
  const access = accessRuleOf(flags);
  const tls = tlsOf(flags);
  if (flags.allowAnonymousUpload && flags.serveSigningKeyFile.length > 0) {
    throw new UsageError(
      'with --allow-anonymous-upload, anybody could have anything signed by the key in --serve-signing-key-file',
    );
  }
  const keys = await Promise.all(flags.serveSigningKeyFile.map(readSecretKeyFile));
  await runServer(flags, async (store, listening) => {
    // The server's packages are not loaded by commands that do without.
    const { serveNarBridge } = await import('../../server/http/nar-bridge.ts');
    const { priority, compress } = flags;
    return serveNarBridge({
      store,
      ...listening,
      access,
      tls,
      priority,
      compress: compress === 'zstd',
      keys,
    });
  });
}
