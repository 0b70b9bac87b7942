import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

/** A directory of this test file's own; it goes when the file is done. */
export function tempDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'tvix-store-test-'));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
