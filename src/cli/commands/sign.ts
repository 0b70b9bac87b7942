import { readSecretKeyFile } from '../../nix/key-file.ts';
import { STORE_PATH_FORMS } from '../../store/named-path.ts';
import { openStore } from '../../store/open/open-store.ts';
import { SigningPathInfoService } from '../../store/path-info/signing.ts';
import { isSignedBy } from '../../store/trust/verify.ts';
import { allOption, choosePaths, chosenPaths } from '../chosen-paths.ts';
import { Command } from '../command.ts';
import { ProgressLine } from '../progress.ts';
import type { StoreFlags } from '../store-options.ts';
import { addressesOf, withStoreOptions } from '../store-options.ts';

interface SignFlags extends StoreFlags {
  readonly all?: boolean;
  readonly keyFile: string;
}

export function signCommand(): Command {
  return withStoreOptions(new Command('sign'))
    .summary('sign store paths')
    .description(
      'Signs store paths that are in the store, and prints those that had no signature by this key. Each is read ' +
        'and verified first. Existing signatures are kept.',
    )
    .argument('[STORE_PATH...]', STORE_PATH_FORMS)
    .requiredOption('-k, --key-file <file>', 'the secret key, as made by "tvix-store key generate"')
    .addOption(allOption())
    .example('tvix-store sign --key-file secret.key --all')
    .action(run);
}

async function run(names: string[], flags: SignFlags): Promise<void> {
  const chosen = choosePaths(names, flags.all ?? false);
  const key = await readSecretKeyFile(flags.keyFile);
  const store = await openStore(addressesOf(flags), 'write');
  let looked = 0;
  const line = new ProgressLine(() => `${looked} store paths`);
  try {
    const signing = new SigningPathInfoService(store.pathInfos, store, key);
    for await (const info of chosenPaths(store, chosen)) {
      looked++;
      line.update();
      if (isSignedBy(info, [key.publicKey])) continue;
      await signing.put(info);
      line.clear();
      process.stdout.write(`${info.storePath.absolute()}\n`);
    }
  } finally {
    line.clear();
    await store.close();
  }
}
