import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { messageOf, StoreError, UsageError } from '../util/errors.ts';
import type { ListenAddress } from '../util/listen-address.ts';
import type { Fields } from '../util/log.ts';
import { log } from '../util/log.ts';
import { libc } from '../util/system/libc.ts';
import { makeDirectory } from '../util/system/make-directory.ts';
import type { Command } from './command.ts';

/** Flags of commands that can leave a process behind. */
export interface BackgroundFlags {
  readonly background?: boolean;
  readonly logFile?: string;
  readonly json?: boolean;
}

/** Report of a process that serves, to the one that waits for it. */
interface Ready {
  readonly begun: string;
  readonly fields: Fields;
  readonly logFile: string;
}

/** In the environment of the process that is to serve: another one waits for it. */
const AWAITED = 'TVIX_STORE_AWAITED';
/** How long to wait for the end of what it said before it served, which comes through a pipe; in milliseconds. */
const LAST_WORDS_MS = 1000;

/** Keeps Node from opening its debugger at SIGUSR1, also before a program can say that it listens to that. */
const NO_DEBUGGER = '--disable-sigusr1';

/** Commands that can leave a process behind. */
const SERVING = ['mount', 'virtiofs', 'daemon', 'nar-bridge', 'nix-daemon'];

const isAwaited = process.env[AWAITED] !== undefined && process.send !== undefined;
delete process.env[AWAITED];

/** Adds them to a command. */
export function withBackgroundOptions(command: Command): Command {
  return command
    .option(
      '--background',
      'run in the background: return once it is serving, and print its process id (with --json, an object)',
    )
    .option(
      '--log-file <file>',
      'with --background: where it logs, behind what is there (default: a file named for what is served, in /var/log/tvix-store for root, ' +
        'else in $XDG_STATE_HOME/tvix-store)',
      // The working directory will be another one.
      (file) => resolve(file),
    );
}

/** Throws a UsageError for sockets that are for the process that systemd started. */
export function refuseInBackground(listen: ListenAddress, { background }: BackgroundFlags): void {
  if (background && listen.kind === 'systemd')
    throw new UsageError(
      '--background has no effect with sd-listen: the sockets are for the process that systemd started',
    );
}

/**
 * With `--background`, has the same command run by a process of its own, and waits until that serves. True when that
 * is all: this process is the one that waited. What the other one says until it serves is passed on.
 */
export async function waitedForServer(flags: BackgroundFlags): Promise<boolean> {
  if (flags.logFile !== undefined && !flags.background)
    throw new UsageError('--log-file goes with --background; without, the log is standard error');
  if (!flags.background || isAwaited) return false;
  const child = spawn(process.execPath, [...process.execArgv, NO_DEBUGGER, ...process.argv.slice(1)], {
    env: { ...process.env, [AWAITED]: '1' },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  child.stderr!.pipe(process.stderr, { end: false });
  const saidAll = once(child.stderr!, 'close');
  const ready = await readyOf(child);
  const enough = new AbortController();
  await Promise.race([saidAll, delay(LAST_WORDS_MS, undefined, { signal: enough.signal }).catch(() => {})]);
  enough.abort();
  child.stderr!.destroy();
  child.unref();
  if (ready) tell(child.pid!, ready, flags);
  else process.exitCode = child.exitCode || 1;
  return true;
}

/** `undefined` when it ended without serving; it has said why. */
async function readyOf(child: ChildProcess): Promise<Ready | undefined> {
  const outcome = await Promise.race([
    once(child, 'message').then(([message]) => message as Ready),
    once(child, 'exit').then(([, signal]) => signal as NodeJS.Signals | null),
  ]);
  if (outcome && typeof outcome === 'object') return outcome;
  if (outcome) log.error('the process was ended before it served', { signal: outcome });
  return undefined;
}

function tell(pid: number, { begun, fields, logFile }: Ready, { json }: BackgroundFlags): void {
  log.info(begun, { ...fields, pid, log: logFile });
  process.stdout.write(json ? `${JSON.stringify({ pid, ...fields, logFile })}\n` : `${pid}\n`);
}

/** Has `stop` called when whoever waits for this process to serve has gone. */
export function onAbandoned(stop: () => void): void {
  if (!isAwaited) return;
  process.once('disconnect', stop);
  // It is no reason to stay.
  process.channel?.unref();
}

/**
 * Says that this process serves. In the background, that is told to the one that waits; from then on what is logged
 * goes to a file, and nothing is held of where the command was started. Nor of its terminal; but only now: systemd lets
 * processes of its own group, and no others, pass to a place where it mounts when somebody asks for it. Throws where the file cannot be written, and
 * CANCELLED when nobody waits any more.
 */
export async function announce(begun: string, fields: Fields, flags: BackgroundFlags): Promise<void> {
  if (isAwaited) {
    const logFile = flags.logFile ?? join(resolve(logFolder()), `${nameOf(fields)}.log`);
    logTo(logFile);
    process.chdir('/');
    libc.setsid();
    process.removeAllListeners('disconnect');
    await new Promise<void>((told, failed) => {
      const gone = new StoreError('CANCELLED', 'nobody waits for this process any more');
      if (!process.connected) throw gone;
      process.send!({ begun, fields, logFile } satisfies Ready, (error: Error | null) =>
        error ? failed(gone) : told(),
      );
    });
    process.disconnect();
  }
  log.info(begun, fields);
}

/** Standard output, where statistics go, is for the log as well. */
function logTo(file: string): void {
  let fd: number;
  try {
    makeDirectory(dirname(file));
    fd = openSync(file, 'a', 0o640);
  } catch (error) {
    throw new StoreError('FAILED_PRECONDITION', `cannot log to a file: ${messageOf(error)}; see --log-file`, {
      cause: error,
    });
  }
  for (const standard of [1, 2]) libc.dup2(fd, standard);
  closeSync(fd);
}

/** Where logs belong: below /var/log for root, else in the user's state folder. */
function logFolder(): string {
  if (process.getuid?.() === 0) return '/var/log/tvix-store';
  return join(process.env.XDG_STATE_HOME || join(homedir(), '.local/state'), 'tvix-store');
}

/** The name of a log file, after what is served. */
function nameOf({ at }: Fields): string {
  const command = process.argv.find((word) => SERVING.includes(word));
  return `${command}-${at}`.replace(/[^\w.:@]+/g, '-').replace(/-$/, '');
}
