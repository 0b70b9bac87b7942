import { readFileSync, statSync } from 'node:fs';
import type { Command } from 'commander';
import { UploadRule } from '../server/upload-rule.ts';
import { messageOf, UsageError } from '../util/errors.ts';
import { log } from '../util/log.ts';
import type { SigningFlags } from './store-options.ts';
import { signingOption } from './store-options.ts';

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
    .option('--upload-token-file <file>', 'who has the token in this file may upload, and nobody else')
    .option('--allow-anonymous-upload', 'without a token: let everybody upload, not only this machine')
    .option('--read-only', 'let nobody upload')
    .addOption(signingOption());
}

/** Throws a UsageError for flags that contradict each other, and for a token that cannot be one. */
export function uploadRuleOf(flags: UploadFlags & SigningFlags): UploadRule {
  const { uploadTokenFile, allowAnonymousUpload: anonymous = false, readOnly = false } = flags;
  if (anonymous && flags.signingKeyFile !== undefined) {
    throw new UsageError(
      '--allow-anonymous-upload would let anybody have things signed by --signing-key-file',
    );
  }
  if (anonymous && uploadTokenFile !== undefined) {
    throw new UsageError('--allow-anonymous-upload and --upload-token-file contradict each other');
  }
  if (readOnly && (anonymous || uploadTokenFile !== undefined)) {
    throw new UsageError('--read-only takes no uploads: leave out the other flags about them');
  }
  return new UploadRule({
    token: uploadTokenFile === undefined ? undefined : readToken(uploadTokenFile),
    anonymous,
    readOnly,
  });
}

function readToken(path: string): string {
  let token: string;
  try {
    token = readFileSync(path, 'utf8').trim();
    const { mode } = statSync(path);
    if ((mode & OTHERS_READ) !== 0)
      log.warn('others can read the upload token: chmod 600 it', { file: path });
  } catch (error) {
    throw new UsageError(`cannot read --upload-token-file: ${messageOf(error)}`, { cause: error });
  }
  if (!/^\S+$/.test(token)) throw new UsageError(`${path}: a token is one word, without white space`);
  return token;
}
