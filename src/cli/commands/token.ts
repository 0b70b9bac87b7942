import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { InvalidArgumentError } from 'commander';
import type { Right, TokenFile } from '../../server/access/tokens.ts';
import {
  checkTokenName,
  hashOfToken,
  isOver,
  NO_TOKENS,
  parseTokenFile,
  printTokenFile,
  RIGHTS,
} from '../../server/access/tokens.ts';
import { messageOf, reasonOf, StoreError } from '../../util/errors.ts';
import { writeWholeFile } from '../../util/system/whole-file.ts';
import { argument, durationArgument } from '../arguments.ts';
import { Command } from '../command.ts';

interface FileFlags {
  readonly file: string;
}

export function tokenCommand(): Command {
  return new Command('token')
    .summary('say who may read from a server, and write to it')
    .description(
      'Makes the tokens by which clients of a daemon or a binary cache show what they may do, in the file that the ' +
        'server has as --tokens. The tokens themselves are not in it, and are shown only once.',
    )
    .example(
      'tvix-store token add --file tokens.json ci --rights read,write --expires 90d',
      'tvix-store daemon --tokens tokens.json',
    )
    .addCommand(addCommand())
    .addCommand(removeCommand())
    .addCommand(anonymousCommand())
    .addCommand(listCommand());
}

function withFile<C extends Command>(command: C): C {
  return command.requiredOption('--file <file>', 'the file of tokens');
}

function addCommand(): Command {
  return withFile(new Command('add'))
    .summary('make a token')
    .description('Makes a token and prints it: only now. The file is made where there is none.')
    .argument('<NAME>', 'name of the token, for people')
    .option(
      '--rights <list>',
      'what it is for, separated by commas: read, write, admin (everything)',
      rightsIn,
      ['read'],
    )
    .option(
      '--expires <duration>',
      'for how long it is good, such as 90d (default: for ever)',
      durationArgument('1s'),
    )
    .option(
      '--paths <pattern...>',
      'for which store paths, by <hash>-<name>; * stands for anything (default: all)',
    )
    .example(
      "tvix-store token add --file tokens.json ci --rights read,write --expires 90d --paths '*-nightly-*'",
    )
    .action(
      async (name: string, flags: FileFlags & { rights: Right[]; expires?: number; paths?: string[] }) => {
        const before = read(flags.file);
        argument(() => checkTokenName(name), 'NAME');
        if (before.tokens.some((one) => one.name === name))
          throw new StoreError(
            'FAILED_PRECONDITION',
            `${flags.file} has a token ${name} already: remove it first`,
          );
        const word = randomBytes(24).toString('base64url');
        const expires =
          flags.expires === undefined
            ? {}
            : { expires: new Date(Date.now() + flags.expires * 1000).toISOString() };
        const token = {
          name,
          sha256: hashOfToken(word),
          rights: flags.rights,
          ...expires,
          ...(flags.paths && { paths: flags.paths }),
        };
        await write(flags.file, { ...before, tokens: [...before.tokens, token] });
        process.stdout.write(`${word}\n`);
      },
    );
}

function removeCommand(): Command {
  return withFile(new Command('remove'))
    .summary('take a token away')
    .description('Takes a token away. Servers see that within a second.')
    .argument('<NAME>', 'name of the token')
    .example('tvix-store token remove --file tokens.json ci')
    .action(async (name: string, { file }: FileFlags) => {
      const before = read(file);
      const tokens = before.tokens.filter((one) => one.name !== name);
      if (tokens.length === before.tokens.length)
        throw new StoreError('NOT_FOUND', `${file} has no token ${name}`);
      await write(file, { ...before, tokens });
    });
}

function anonymousCommand(): Command {
  return withFile(new Command('anonymous'))
    .summary('say what those without a token may do')
    .description('Says what those may do who show no token: read (as it is at first), or nothing.')
    .argument('<RIGHT>', 'read or nothing')
    .example('tvix-store token anonymous --file tokens.json nothing')
    .action(async (right: string, { file }: FileFlags) => {
      const anonymous = argument(() => anonymousRights(right), 'RIGHT');
      await write(file, { ...read(file), anonymous });
    });
}

function listCommand(): Command {
  return withFile(new Command('list'))
    .summary('list the tokens')
    .description('Lists the tokens by their names, what each is for, and until when.')
    .option('--json', 'print the file as it is')
    .example('tvix-store token list --file tokens.json')
    .action(({ file, json }: FileFlags & { json?: boolean }) => {
      const all = read(file);
      if (json) process.stdout.write(printTokenFile(all));
      else {
        process.stdout.write(`(without a token)\t${all.anonymous.join(',') || 'nothing'}\n`);
        for (const token of all.tokens) {
          const end =
            token.expires === undefined ? '' : `\t${isOver(token) ? 'ended' : 'until'} ${token.expires}`;
          const paths = token.paths ? `\tfor ${token.paths.join(' ')}` : '';
          process.stdout.write(`${token.name}\t${token.rights.join(',')}${end}${paths}\n`);
        }
      }
    });
}

function rightsIn(text: string): Right[] {
  return text.split(',').map((word) => {
    const right = RIGHTS.find((known) => known === word.trim());
    if (!right) throw new InvalidArgumentError(`Want some of ${RIGHTS.join(', ')}, separated by commas.`);
    return right;
  });
}

function anonymousRights(text: string): Right[] {
  if (text === 'read') return ['read'];
  if (text === 'nothing') return [];
  throw new Error(`want read or nothing, not ${JSON.stringify(text)}`);
}

function read(path: string): TokenFile {
  if (!existsSync(path)) return NO_TOKENS;
  try {
    return parseTokenFile(readFileSync(path));
  } catch (error) {
    throw new StoreError(
      'INVALID_ARGUMENT',
      `${path} is no file of tokens: ${reasonOf(error) || messageOf(error)}`,
      { cause: error },
    );
  }
}

/** Only its owner can read it; one that is there keeps its permissions. */
async function write(path: string, file: TokenFile): Promise<void> {
  const mode = existsSync(path) ? statSync(path).mode & 0o777 : 0o600;
  await writeWholeFile(path, [Buffer.from(printTokenFile(file))], { mode });
}
