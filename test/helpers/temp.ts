import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

const made: string[] = [];

// Registered when a test file imports this: hooks that are added while tests run would not be called.
afterAll(() => {
  for (const dir of made) rmSync(dir, { recursive: true, force: true });
});

/** For a test that a busy disk would disturb: a file system in memory, where there is one. */
export const IN_MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** A directory of this test file's own; it goes when the file is done. */
export function tempDir(parent = tmpdir()): string {
  const dir = mkdtempSync(join(parent, 'tvix-store-test-'));
  made.push(dir);
  return dir;
}
