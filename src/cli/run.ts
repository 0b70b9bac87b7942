import { realpathSync } from 'node:fs';
import { format, inspect } from 'node:util';
import { CommanderError } from 'commander';
import { messageOf, StoreError, UsageError } from '../util/errors.ts';
import { log, logLine } from '../util/log.ts';
import { isEnding } from './end.ts';
import { loadProgram } from './program.ts';

/** Exit codes: 0 good, 1 failure, 2 wrong usage. */
const FAILURE = 1;
const USAGE = 2;

/** Runs the command that the arguments of mount(8) stand for, and gives its exit code. */
export async function runMountHelper(args: readonly string[]): Promise<number> {
  return ending(async () => {
    const { helperArguments } = await import('./mount-helper.ts');
    const command = helperArguments(args);
    if (!command) return;
    // The process that will serve is started with these.
    process.argv.splice(1, process.argv.length, realpathSync(process.argv[1]!), ...command);
    await perform(command);
  });
}

/** Runs the command that the arguments give, and gives its exit code. */
export function run(args: readonly string[]): Promise<number> {
  return ending(() => perform(args));
}

async function perform(args: readonly string[]): Promise<void> {
  const program = await loadProgram(args[0]);
  await program.parseAsync(args, { from: 'user' });
}

/** Does something, tells what it throws, and gives the exit code. */
async function ending(work: () => Promise<void>): Promise<number> {
  // Packages print there what they throw as well, with its stack.
  console.error = (...said) => log.debug('a package says', { what: format(...said) });
  try {
    await work();
    return 0;
  } catch (error) {
    if (isEnding()) return 0;
    // It has been told.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE;
    process.stderr.write(logLine('error', messageOf(error)));
    if (!(error instanceof StoreError) && process.env.DEBUG) process.stderr.write(`${inspect(error)}\n`);
    return error instanceof UsageError ? USAGE : FAILURE;
  }
}
