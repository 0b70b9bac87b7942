import { Command } from 'commander';
import { readSecretKeyFile } from '../../nix/key-file.ts';
import { openStore } from '../../store/open/open-store.ts';
import { SigningPathInfoService } from '../../store/path-info/signing.ts';
import { isSignedBy } from '../../store/trust/verify.ts';
import { chosenPaths } from '../chosen-paths.ts';
import type { StoreFlags } from '../store-options.ts';
import { addressesOf, withStoreOptions } from '../store-options.ts';

interface SignFlags extends StoreFlags {
  readonly all?: boolean;
  readonly keyFile: string;
}

export function signCommand(): Command {
  return withStoreOptions(new Command('sign'))
    .summary('sign store paths that are in the store')
    .description(
      'Signs store paths that are in the store, and prints those that had no signature by this key. Each is read and\n' +
        'verified before; signatures that are there are kept.',
    )
    .argument('[STORE_PATH...]', '/nix/store/ may be left out, a bare hash will do')
    .requiredOption('-k, --key-file <file>', 'the secret key, as "tvix-store key generate" makes it')
    .option('--all', 'every store path in the store')
    .addHelpText('after', '\nExample:\n  tvix-store sign --key-file secret.key --all')
    .action(run);
}

async function run(names: string[], flags: SignFlags): Promise<void> {
  const key = await readSecretKeyFile(flags.keyFile);
  const store = await openStore(addressesOf(flags), 'write');
  try {
    const signing = new SigningPathInfoService(store.pathInfos, store, key);
    for await (const info of chosenPaths(store, names, flags.all ?? false)) {
      if (isSignedBy(info, [key.publicKey])) continue;
      await signing.put(info);
      process.stdout.write(`${info.storePath.absolute()}\n`);
    }
  } finally {
    await store.close();
  }
}
