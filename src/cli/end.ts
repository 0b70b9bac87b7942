import { flushCompileCache } from 'node:module';
import { libc } from '../util/system/libc.ts';

/** For how long a program that ends goes on at most, in milliseconds. */
const LAST_TASKS_MS = 100;

let ending = false;

/** Whether the process is ending: what fails from then on is a consequence, and not worth a word. */
export function isEnding(): boolean {
  return ending;
}

/**
 * Ends the process with an exit code, the first one that is given, as soon as nothing is left to do, or soon after: a
 * connection that is still being made would keep it until that is given up. Not by `process.exit`, which waits for
 * all threads: one of V8's may be compiling, and wait for this one to collect garbage; another may wait for the lock of a
 * process that is stopped.
 */
export function endProcess(code: number): void {
  if (ending) return;
  ending = true;
  process.exitCode = code;
  // Node would let go of its signal handlers while it puts everything away, and a signal would kill it in the end.
  process.once('exit', (last) => {
    flushCompileCache();
    libc._exit(last);
  });
  setTimeout(() => libc._exit(Number(process.exitCode)), LAST_TASKS_MS).unref();
}
