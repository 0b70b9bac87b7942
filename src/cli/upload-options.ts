import { statSync } from 'node:fs';
import { UploadRule } from '../server/upload-rule.ts';
import { reasonOf, UsageError } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { FreshFiles } from '../util/system/fresh-files.ts';
import type { Command } from './command.ts';
import type { SigningFlags } from './store-options.ts';
import { isGiven, signingOption } from './store-options.ts';

/** Flags that say who may put something into the store that is served. */
export interface UploadFlags {
  readonly uploadTokenFile?: string;
  readonly allowAnonymousUpload?: boolean;
  readonly readOnly?: boolean;
}

const OTHERS_READ = 0o044;

/** Adds the flags about uploads to a command. */
export function withUploadOptions(command: Command): Command {
  return command
    .option(
      '--upload-token-file <file>',
      'only clients with the token in this file may upload, wherever they are',
    )
    .option(
      '--allow-anonymous-upload',
      'let every client upload without a token, not only those on this machine',
    )
    .option('--read-only', 'refuse all uploads')
    .addOption(signingOption())
    .hook('preAction', (_, acting) => {
      if (acting.opts().readOnly && isGiven(acting, 'signingKeyFile'))
        acting.error('error: --signing-key-file has no effect with --read-only: nothing is added');
    });
}

/** Throws a UsageError for flags that contradict each other, and for a token that cannot be one. */
export function uploadRuleOf(flags: UploadFlags & SigningFlags): UploadRule {
  const { uploadTokenFile, allowAnonymousUpload: anonymous = false, readOnly = false } = flags;
  if (anonymous && flags.signingKeyFile !== undefined) {
    throw new UsageError(
      'with --allow-anonymous-upload, anybody could have anything signed by the key in --signing-key-file',
    );
  }
  if (anonymous && uploadTokenFile !== undefined) {
    throw new UsageError('give either --allow-anonymous-upload or --upload-token-file, not both');
  }
  if (readOnly && (anonymous || uploadTokenFile !== undefined)) {
    throw new UsageError(
      '--read-only refuses all uploads: leave out --upload-token-file and --allow-anonymous-upload',
    );
  }
  return new UploadRule({
    token: uploadTokenFile === undefined ? undefined : tokenIn(uploadTokenFile),
    anonymous,
    readOnly,
  });
}

/** Gives the token in a file, as it is now. */
function tokenIn(path: string): () => string {
  try {
    const file = new FreshFiles([path], ([bytes]) => {
      const token = bytes!.toString().trim();
      if (!/^\S+$/.test(token))
        throw new UsageError(`${path}: a token must be one word, without white space`);
      return token;
    });
    if ((statSync(path).mode & OTHERS_READ) !== 0)
      log.warn('the upload token is readable by others; chmod 600 it', { file: path });
    return () => file.get();
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`cannot read --upload-token-file ${path}: ${reasonOf(error)}`, { cause: error });
  }
}
