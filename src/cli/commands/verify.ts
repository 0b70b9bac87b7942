import { PublicKey } from '../../nix/key.ts';
import { castoreName } from '../../nix/signature.ts';
import { STORE_PATH_FORMS } from '../../store/named-path.ts';
import { openStore } from '../../store/open/open-store.ts';
import type { PathInfo } from '../../store/path-info/path-info.ts';
import type { Store } from '../../store/services.ts';
import { addressProblems, contentProblems, isRootSignedBy, isSignedBy } from '../../store/trust/verify.ts';
import { argument } from '../arguments.ts';
import { allOption, choosePaths, chosenPaths } from '../chosen-paths.ts';
import { Command } from '../command.ts';
import { ProgressLine } from '../progress.ts';
import type { StoreFlags } from '../store-options.ts';
import { addressesOf, withStoreOptions } from '../store-options.ts';

interface VerifyFlags extends StoreFlags {
  readonly all?: boolean;
  readonly trustedPublicKeys?: string[];
  readonly contents: boolean;
  readonly json?: boolean;
}

export function verifyCommand(): Command {
  return withStoreOptions(new Command('verify'))
    .summary('verify store paths')
    .description(
      'Reads store paths that are in the store and computes their NAR hashes and content addresses again. With ' +
        'trusted keys, each path must be signed by one of them or be content-addressed. Prints what is wrong, ' +
        'and ends with exit code 1 if anything is.',
    )
    .argument('[STORE_PATH...]', STORE_PATH_FORMS)
    .addOption(allOption())
    .option(
      '--trusted-public-keys <key...>',
      'one of these keys must have signed, as NAME:BASE64; a STORE_PATH goes before this',
    )
    .option('--no-contents', 'do not read contents; check only signatures and content addresses')
    .option('--json', 'print one JSON object, keyed by store path')
    .example('tvix-store verify --all --trusted-public-keys "$(tvix-store key public --file secret.key)"')
    .action(run);
}

async function run(names: string[], flags: VerifyFlags): Promise<void> {
  const chosen = choosePaths(names, flags.all ?? false);
  const keys = flags.trustedPublicKeys && parseKeys(flags.trustedPublicKeys);
  const store = await openStore(addressesOf({ ...flags, trustedPublicKeys: undefined }), 'read');
  const report = flags.json ? new JsonReport() : new TextReport();
  let verified = 0;
  let wrong = 0;
  const line = new ProgressLine(() => `${verified} verified, ${wrong} of them wrong`);
  try {
    for await (const info of chosenPaths(store, chosen)) {
      const problems = await problemsOf(store, info, keys, flags.contents);
      verified++;
      if (problems.length > 0) wrong++;
      line.clear();
      report.path(info.storePath.absolute(), problems);
      line.update();
    }
    line.clear();
    report.end(verified, wrong);
  } finally {
    line.clear();
    await store.close();
  }
  if (wrong > 0) process.exitCode = 1;
}

async function problemsOf(
  store: Store,
  info: PathInfo,
  keys: readonly PublicKey[] | undefined,
  contents: boolean,
): Promise<string[]> {
  const problems = contents ? await contentProblems(store, info) : addressProblems(info);
  if (!keys) return problems;
  const isTrusted = info.ca !== undefined || isSignedBy(info, keys) || isRootSignedBy(info, keys);
  if (!isTrusted) problems.push('no trusted key has signed it');
  for (const key of keys) {
    if (info.signatures.some(({ name }) => name === castoreName(key.name)) && !isRootSignedBy(info, [key]))
      problems.push(`the castore signature of ${key.name} is not that of its contents`);
  }
  return problems;
}

function parseKeys(lists: readonly string[]): PublicKey[] {
  return argument(() => PublicKey.parseList(lists.join(' ')), '--trusted-public-keys');
}

/** Says what is wrong, and at the end how much. */
class TextReport {
  path(path: string, problems: readonly string[]): void {
    for (const problem of problems) process.stdout.write(`${path}: ${problem}\n`);
  }

  end(verified: number, wrong: number): void {
    process.stdout.write(
      `${verified} store paths verified, ${wrong === 0 ? 'all good' : `${wrong} of them wrong`}\n`,
    );
  }
}

/** Streamed: a store may hold millions. */
class JsonReport {
  #separator = '{';

  path(path: string, problems: readonly string[]): void {
    const entry = { valid: problems.length === 0, problems };
    process.stdout.write(`${this.#separator}\n  ${JSON.stringify(path)}: ${JSON.stringify(entry)}`);
    this.#separator = ',';
  }

  end(): void {
    process.stdout.write(this.#separator === '{' ? '{}\n' : '\n}\n');
  }
}
