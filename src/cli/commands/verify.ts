import { Command } from 'commander';
import { PublicKey } from '../../nix/key.ts';
import { openStore } from '../../store/open/open-store.ts';
import type { PathInfo } from '../../store/path-info/path-info.ts';
import type { Store } from '../../store/services.ts';
import { addressProblems, contentProblems, isSignedBy } from '../../store/trust/verify.ts';
import { messageOf, UsageError } from '../../util/errors.ts';
import { chosenPaths } from '../chosen-paths.ts';
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
    .summary('verify store paths that are in the store')
    .description(
      'Reads store paths that are in the store and computes their NAR hashes and content addresses anew. With\n' +
        'trusted keys, each must be signed by one of them, or have a content address. Says what is wrong, and ends\n' +
        'with 1 if anything is.',
    )
    .argument('[STORE_PATH...]', '/nix/store/ may be left out, a bare hash will do')
    .option('--all', 'every store path in the store')
    .option('--trusted-public-keys <key...>', 'keys of which one must have signed, as NAME:BASE64')
    .option('--no-contents', 'do not read contents: check signatures and addresses only')
    .option('--json', 'one JSON object, by store path')
    .addHelpText(
      'after',
      '\nExample:\n  tvix-store verify --all --trusted-public-keys "$(tvix-store key public --file secret.key)"',
    )
    .action(run);
}

async function run(names: string[], flags: VerifyFlags): Promise<void> {
  const keys = flags.trustedPublicKeys && parseKeys(flags.trustedPublicKeys.join(' '));
  const store = await openStore(addressesOf(flags), 'read');
  const report = flags.json ? new JsonReport() : new TextReport();
  let verified = 0;
  let wrong = 0;
  const line = new ProgressLine(() => `${verified} verified, ${wrong} of them wrong`);
  try {
    for await (const info of chosenPaths(store, names, flags.all ?? false)) {
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
  const isTrusted = !keys || info.ca !== undefined || isSignedBy(info, keys);
  return isTrusted ? problems : [...problems, 'no trusted key has signed it'];
}

function parseKeys(text: string): PublicKey[] {
  try {
    return PublicKey.parseList(text);
  } catch (error) {
    throw new UsageError(`--trusted-public-keys: ${messageOf(error)}`, { cause: error });
  }
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
