import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
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
  const ended = once(child, 'close');
  const [stdout, stderr] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  const [status] = await ended;
  return { status, stdout, stderr };
}

/** Runs `tvix-store`, as built. */
export function tvixStore(args: readonly string[], options: SpawnOptions = {}): Promise<Result> {
  return run(process.execPath, [CLI, ...args], options);
}

/** Starts `tvix-store` and resolves when `ready` stands in its log. */
export function startTvixStore(
  args: readonly string[],
  ready: string,
  options: SpawnOptions = {},
): Promise<ChildProcess & { log: () => string }> {
  return start(process.execPath, [CLI, ...args], ready, options);
}

/** Starts a program and resolves when `ready` stands in its log. */
export async function start(
  command: string,
  args: readonly string[],
  ready: string,
  options: SpawnOptions = {},
): Promise<ChildProcess & { log: () => string }> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'], ...options });
  let log = '';
  child.stderr!.setEncoding('utf8');
  await new Promise<void>((resolve, reject) => {
    child.stderr!.on('data', (part: string) => {
      log += part;
      if (log.includes(ready)) resolve();
    });
    child.once('error', reject);
    child.once('exit', (status) => reject(new Error(`tvix-store ended with ${status}: ${log}`)));
  });
  return Object.assign(child, { log: () => log });
}
