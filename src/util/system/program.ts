import type { SpawnOptions } from 'node:child_process';
import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, isAbsolute, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { inTime } from '../async/in-time.ts';

/** How long a folder in PATH may take to answer, in milliseconds: it may lie in a mount whose server is stopped. */
const ANSWER_MS = 1000;
/** Where a shell looks without a PATH: mount(8) gives its helpers none. */
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * The path of a program that PATH leads to; `undefined` where there is none. Whoever serves a mount looks for its helpers
 * before it mounts: later PATH could lead into the mount, and the search would wait for who searches.
 */
export async function findProgram(name: string): Promise<string | undefined> {
  for (const folder of (process.env.PATH ?? DEFAULT_PATH).split(delimiter).filter(isAbsolute)) {
    const path = join(folder, name);
    const isThere = inTime(access(path, constants.X_OK), ANSWER_MS).then(
      () => true,
      () => false,
    );
    if (await isThere) return path;
  }
  return undefined;
}

/** How a program has ended, and what it complained of. */
export interface Ended {
  /** `undefined` when it was ended by a signal. */
  readonly status: number | undefined;
  readonly complaint: string;
}

/** Runs a program, from `/`, to its end, or for so many milliseconds. Throws what keeps it from starting. */
export async function runProgram(
  path: string,
  args: readonly string[],
  milliseconds: number,
  {
    env = process.env,
    stdio = [],
  }: { readonly env?: NodeJS.ProcessEnv; readonly stdio?: readonly number[] } = {},
): Promise<Ended> {
  const options: SpawnOptions = {
    cwd: '/',
    env,
    stdio: ['ignore', 'ignore', 'pipe', ...stdio],
    timeout: milliseconds,
    killSignal: 'SIGKILL',
  };
  const program = spawn(path, args, options);
  const ended = new Promise<number | undefined>((resolve, reject) => {
    program.once('error', reject);
    program.once('exit', (status) => resolve(status ?? undefined));
  });
  const complaint = text(program.stderr!);
  return { status: await ended, complaint: (await complaint).trim() };
}
