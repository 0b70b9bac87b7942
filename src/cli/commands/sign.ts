import { Option } from 'commander';
import type { SecretKey } from '../../nix/key.ts';
import { readSecretKeyFile } from '../../nix/key-file.ts';
import { castoreName } from '../../nix/signature.ts';
import { STORE_PATH_FORMS } from '../../store/named-path.ts';
import { openStore } from '../../store/open/open-store.ts';
import type { PathInfo } from '../../store/path-info/path-info.ts';
import { SigningPathInfoService } from '../../store/path-info/signing.ts';
import { replacing } from '../../store/path-info/united.ts';
import type { Store } from '../../store/services.ts';
import { isFullySignedBy } from '../../store/trust/verify.ts';
import { UsageError } from '../../util/errors.ts';
import { allOption, choosePaths, chosenPaths } from '../chosen-paths.ts';
import { Command } from '../command.ts';
import { ProgressLine } from '../progress.ts';
import type { StoreFlags } from '../store-options.ts';
import { addressesOf, withStoreOptions } from '../store-options.ts';

interface SignFlags extends StoreFlags {
  readonly all?: boolean;
  readonly keyFile?: string;
  readonly remove?: string;
}

export function signCommand(): Command {
  return withStoreOptions(new Command('sign'))
    .summary('sign store paths')
    .description(
      'Signs store paths that are in the store, and prints those that had no signature by this key. Each is read ' +
        'and verified first. Existing signatures are kept. With --remove, takes signatures away, and prints the store ' +
        'paths that had one.',
    )
    .argument('[STORE_PATH...]', STORE_PATH_FORMS)
    .option('-k, --key-file <file>', 'the secret key, as made by "tvix-store key generate"')
    .addOption(
      new Option('--remove <name>', 'take away the signatures by keys of this name').conflicts('keyFile'),
    )
    .addOption(allOption())
    .example('tvix-store sign --key-file secret.key --all', 'tvix-store sign --remove cache.example-1 --all')
    .action(run);
}

async function run(names: string[], flags: SignFlags): Promise<void> {
  const { all = false, keyFile, remove } = flags;
  if (keyFile === undefined && remove === undefined)
    throw new UsageError('want --key-file <file> to sign, or --remove <name>');
  const chosen = choosePaths(names, all);
  const key = keyFile === undefined ? undefined : await readSecretKeyFile(keyFile);
  const store = await openStore(addressesOf(flags), 'write');
  let looked = 0;
  const line = new ProgressLine(() => `${looked} store paths`);
  try {
    const change = key ? signingBy(store, key) : removing(store, remove!);
    for await (const info of chosenPaths(store, chosen)) {
      looked++;
      line.update();
      if (!(await change(info))) continue;
      line.clear();
      process.stdout.write(`${info.storePath.absolute()}\n`);
    }
  } finally {
    line.clear();
    await store.close();
  }
}

/** Changes a path info; false where there is nothing to change. */
type Change = (info: PathInfo) => Promise<boolean>;

function signingBy(store: Store, key: SecretKey): Change {
  const signing = new SigningPathInfoService(store.pathInfos, store, key);
  return async (info) => {
    if (isFullySignedBy(info, key.publicKey)) return false;
    await signing.put(info);
    return true;
  };
}

function removing({ pathInfos }: Store, name: string): Change {
  return async (info) => {
    const names = [name, castoreName(name)];
    const signatures = info.signatures.filter((signature) => !names.includes(signature.name));
    if (signatures.length === info.signatures.length) return false;
    await replacing(pathInfos, { ...info, signatures });
    return true;
  };
}
