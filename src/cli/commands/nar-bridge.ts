import { Option } from 'commander';
import { numberArgument } from '../arguments.ts';
import { Command } from '../command.ts';
import type { ListenFlags } from '../run-server.ts';
import { runServer, withListenOptions } from '../run-server.ts';
import type { SigningFlags, StoreFlags } from '../store-options.ts';
import { withStoreOptions } from '../store-options.ts';
import type { UploadFlags } from '../upload-options.ts';
import { uploadRuleOf, withUploadOptions } from '../upload-options.ts';

interface NarBridgeFlags extends StoreFlags, ListenFlags, UploadFlags, SigningFlags {
  readonly priority: number;
  readonly compress?: 'zstd';
}

/** One better than cache.nixos.org. */
const PRIORITY = 39;
const MAX_PRIORITY = 2 ** 31 - 1;

export function narBridgeCommand(): Command {
  return withUploadOptions(withListenOptions(withStoreOptions(new Command('nar-bridge')), '[::]:9000'))
    .summary('serve the store to Nix, as a binary cache')
    .description(
      'Serves the store over HTTP as a binary cache for Nix until SIGINT, SIGTERM or SIGHUP: a substituter, and a place ' +
        'to nix copy to and from. Without --upload-token-file only this machine may upload, over a unix socket ' +
        'or from a loopback address.',
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
    .example(
      'tvix-store nar-bridge -l 127.0.0.1:9000',
      "nix copy --to 'http://127.0.0.1:9000?compression=none' /nix/store/…-hello",
    )
    .action(run);
}

async function run(flags: NarBridgeFlags): Promise<void> {
  const uploads = uploadRuleOf(flags);
  await runServer(flags, async (store, listening) => {
    // The server's packages are not loaded by commands that do without.
    const { serveNarBridge } = await import('../../server/http/nar-bridge.ts');
    const { priority, compress } = flags;
    return serveNarBridge({ store, ...listening, uploads, priority, compress: compress === 'zstd' });
  });
}
