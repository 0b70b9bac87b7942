import { format, inspect } from 'node:util';
import { CommanderError } from 'commander';
import { messageOf, StoreError, UsageError } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { isEnding } from './end.ts';
import { loadProgram } from './program.ts';

/** Exit codes: 0 good, 1 failure, 2 wrong usage. */
const FAILURE = 1;
const USAGE = 2;

/** Runs the command that the arguments give, and gives its exit code. */
export async function run(args: readonly string[]): Promise<number> {
  // Packages print there what they throw as well, with its stack.
  console.error = (...said) => log.debug('a package says', { what: format(...said) });
  try {
    const program = await loadProgram(args[0]);
    await program.parseAsync(args, { from: 'user' });
    return 0;
  } catch (error) {
    if (isEnding()) return 0;
    // It has been told.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE;
    process.stderr.write(`error: ${messageOf(error)}\n`);
    if (!(error instanceof StoreError) && process.env.DEBUG) process.stderr.write(`${inspect(error)}\n`);
    return error instanceof UsageError ? USAGE : FAILURE;
  }
}
