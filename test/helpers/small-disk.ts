import { spawnSync } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { afterAll } from 'vitest';
import { tempDir } from './temp.ts';

const mounted: string[] = [];

afterAll(() => {
  for (const dir of mounted) spawnSync('umount', ['-l', dir]);
});

/** A file system of so many MiB, which goes after the test file; `undefined` where this user may not mount one. */
export function smallDisk(mib: number): string | undefined {
  const dir = tempDir();
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'none', dir]).status !== 0) return undefined;
  mounted.push(dir);
  return dir;
}

/** Bytes that are free on it. */
export function freeOf(disk: string): number {
  const { bavail, bsize } = statfsSync(disk);
  return bavail * bsize;
}
