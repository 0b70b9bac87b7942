import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { S3_DIR, S3_SERVER } from './s3.ts';

/** Gives the run a place for its S3 server, which a test that needs it starts; it ends with the run. */
export function setup(): () => void {
  const dir = mkdtempSync(join(tmpdir(), 'tvix-store-s3-'));
  process.env[S3_DIR] = dir;
  return () => {
    spawnSync(S3_SERVER, ['stop', dir]);
    rmSync(dir, { recursive: true, force: true });
  };
}
