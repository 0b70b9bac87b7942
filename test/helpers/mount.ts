import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { startTvixStore } from './cli.ts';
import { tempDir } from './temp.ts';

export const DRIVERS = ['kernel', 'fuse-native'] as const;
export type DriverName = (typeof DRIVERS)[number];

/** A mount that serves in a process of its own. */
export interface TestMount {
  readonly dir: string;
  readonly pid: number;
  readonly child: ChildProcess;
  /** What it has logged so far. */
  log(): string;
  /** Ends it by a signal; gives the exit status and how long that took in milliseconds. */
  stop(signal?: NodeJS.Signals): Promise<{ status: number | null; log: string; took: number }>;
}

const started: { child: ChildProcess; dir: string }[] = [];

afterAll(() => {
  for (const { child, dir } of started) {
    child.kill('SIGKILL');
    spawnSync('umount', ['-l', dir], { stdio: 'ignore' });
  }
});

/** Sees to it that a process which serves a mount, and the mount, go when the test file is done. */
export function endLater(child: ChildProcess, dir: string): void {
  started.push({ child, dir });
}

/** A new directory to mount on. */
function newMountPoint(): string {
  const dir = join(tempDir(), 'mnt');
  mkdirSync(dir);
  return dir;
}

/** Mounts with `tvix-store mount`; whatever happens, nothing stays mounted after the test file. */
export async function mount(
  args: readonly string[],
  dir = newMountPoint(),
  options: SpawnOptions = {},
): Promise<TestMount> {
  const child = await startTvixStore(['mount', ...args, dir], 'info: mounted', options);
  endLater(child, dir);
  return {
    dir,
    pid: child.pid!,
    child,
    log: child.log,
    async stop(signal = 'SIGTERM') {
      const begun = Date.now();
      const ended = once(child, 'exit');
      child.kill(signal);
      const [status] = await ended;
      return { status, log: child.log(), took: Date.now() - begun };
    },
  };
}
