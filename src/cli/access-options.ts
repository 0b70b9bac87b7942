import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { AccessRule } from '../server/access/rule.ts';
import type { TokenFile } from '../server/access/tokens.ts';
import { parseTokenFile } from '../server/access/tokens.ts';
import { reasonOf, UsageError } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { FreshFiles } from '../util/system/fresh-files.ts';
import type { Command } from './command.ts';
import type { SigningFlags } from './store-options.ts';
import { isGiven, signingOption } from './store-options.ts';

/** Flags that say who may do what with the store that is served. */
export interface AccessFlags {
  readonly tokens?: string;
  readonly allowAnonymousUpload?: boolean;
  readonly readOnly?: boolean;
}

const OTHERS_WRITE = 0o022;

/** Adds the flags about who may do what to a command. */
export function withAccessOptions(command: Command): Command {
  return command
    .option('--tokens <file>', 'let those in who show a token of this file, which "tvix-store token" makes')
    .option('--allow-anonymous-upload', 'let every client upload, not only those on a unix socket')
    .option('--read-only', 'refuse all uploads')
    .addOption(signingOption())
    .hook('preAction', (_, acting) => {
      if (acting.opts().readOnly && isGiven(acting, 'signingKeyFile'))
        acting.error('error: --signing-key-file has no effect with --read-only: nothing is added');
    });
}

/** Throws a UsageError for flags that contradict each other, and for a file of tokens that is none. */
export function accessRuleOf(flags: AccessFlags & SigningFlags): AccessRule {
  const { tokens, allowAnonymousUpload: anonymous = false, readOnly = false } = flags;
  if (anonymous && flags.signingKeyFile !== undefined) {
    throw new UsageError(
      'with --allow-anonymous-upload, anybody could have anything signed by the key in --signing-key-file',
    );
  }
  if (anonymous && tokens !== undefined)
    throw new UsageError('give either --allow-anonymous-upload or --tokens, not both');
  if (readOnly && anonymous)
    throw new UsageError('--read-only refuses all uploads: leave out --allow-anonymous-upload');
  return new AccessRule({ tokens: tokens === undefined ? undefined : tokensIn(tokens), anonymous, readOnly });
}

/** Gives the tokens in a file, as it is now. */
function tokensIn(path: string): () => TokenFile {
  try {
    const file = new FreshFiles([resolve(path)], ([bytes]) => parseTokenFile(bytes!));
    if ((statSync(path).mode & OTHERS_WRITE) !== 0)
      log.warn('the file of tokens can be written by others; chmod 600 it', { file: path });
    return () => file.get();
  } catch (error) {
    throw new UsageError(`cannot use --tokens ${path}: ${reasonOf(error)}`, { cause: error });
  }
}
