import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

export const ROOT = join(import.meta.dirname, '../..');
export const CLI = join(ROOT, 'dist/cli/main.js');

export interface Result {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
export async function run(
  command: string,
  args: readonly string[],
  options: SpawnOptions = {},
): Promise<Result> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 60_000, ...options });
  const ended = end(child);
  const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  return { status: await ended, stdout, stderr };
}

/** The exit status, once it is gone; also one that the `signal` of its options ends is waited for. */
function end(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve, reject) => {
    let failure: Error | undefined;
    child.once('error', (error) => {
      failure = error;
    });
    child.once('close', (status) => (failure ? reject(failure) : resolve(status)));
  });
}

/** What a process has printed so far. */
export function printedBy({ stdout, stderr }: ChildProcess): { stdout: string; stderr: string } {
  const printed = { stdout: '', stderr: '' };
  stdout?.setEncoding('utf8').on('data', (part: string) => {
    printed.stdout += part;
  });
  stderr?.setEncoding('utf8').on('data', (part: string) => {
    printed.stderr += part;
  });
  return printed;
}

/** A process that goes on, and what it has logged so far. */
export type Started = ChildProcess & { log: () => string };

/** Runs `tvix-store`, as built. Throws when it prints a warning of Node's. */
export async function tvixStore(args: readonly string[], options: SpawnOptions = {}): Promise<Result> {
  const result = await run(process.execPath, [CLI, ...args], options);
  refuseWarnings(args, result.stderr);
  return result;
}

/**
 * Starts `tvix-store` and resolves when its log has a line with `ready`. A warning of Node's that it prints fails the
 * run of the tests.
 */
export async function startTvixStore(
  args: readonly string[],
  ready: string,
  options: SpawnOptions = {},
): Promise<Started> {
  const child = await start(process.execPath, [CLI, ...args], ready, options);
  child.once('close', () => refuseWarnings(args, child.log()));
  return child;
}

/** What is deprecated, experimental or leaks is told to whoever runs the program, who can do nothing about it. */
function refuseWarnings(args: readonly string[], stderr: string): void {
  const [warning] = /^\(node:\d+\) .*/m.exec(stderr) ?? [];
  if (warning) throw new Error(`tvix-store ${args.join(' ')}: ${warning}`);
}

/** Starts a program and resolves when its log has a line with `ready`. */
export async function start(
  command: string,
  args: readonly string[],
  ready: string,
  options: SpawnOptions = {},
): Promise<Started> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'], ...options });
  let log = '';
  child.stderr!.setEncoding('utf8');
  await new Promise<void>((resolve, reject) => {
    child.stderr!.on('data', (part: string) => {
      log += part;
      const begun = log.indexOf(ready);
      if (begun >= 0 && log.includes('\n', begun)) resolve();
    });
    child.once('error', reject);
    child.once('exit', (status) => reject(new Error(`${command} ended with ${status}: ${log}`)));
  });
  return Object.assign(child, { log: () => log });
}
