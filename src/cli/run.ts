import { CommanderError } from 'commander';
import { messageOf, StoreError, UsageError } from '../util/errors.ts';
import { endWithOutput } from './output.ts';
import { program } from './program.ts';

/** Exit codes: 0 good, 1 failure, 2 wrong usage. */
const FAILURE = 1;
const USAGE = 2;

endWithOutput();

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? 0 : USAGE;
  } else {
    process.stderr.write(`error: ${messageOf(error)}\n`);
    if (!(error instanceof StoreError) && process.env.DEBUG) console.error(error);
    process.exitCode = error instanceof UsageError ? USAGE : FAILURE;
  }
}
