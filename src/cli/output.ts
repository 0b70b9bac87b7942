import { writeFileSync } from 'node:fs';
import { getSystemErrorMessage } from 'node:util';
import { messageOf } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { takesMore } from '../util/system/poll-set.ts';
import { endProcess, isEnding } from './end.ts';

/** Ends the process when what a command prints cannot be written: quietly when its reader has had enough. */
export function endWithOutput(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (isEnding()) return;
    if (error.code === 'EPIPE') return endProcess(0);
    const reason = error.errno === undefined ? messageOf(error) : getSystemErrorMessage(error.errno);
    process.stderr.write(`error: cannot write to standard output: ${reason}\n`);
    endProcess(1);
  });
  // Nobody reads what we complain of: no reason to fail.
  process.stderr.on('error', () => {});
}

/** Prints a line for a command that goes on serving others, whatever becomes of its output. */
export function printWhileServing(line: string): void {
  if (!takesMore(1)) {
    log.warn('nobody reads what is written to standard output');
    return;
  }
  try {
    writeFileSync(1, `${line}\n`);
  } catch (error) {
    log.warn('cannot write to standard output', { error: messageOf(error) });
  }
}
