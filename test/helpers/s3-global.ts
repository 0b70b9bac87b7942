import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from './cli.ts';

export const S3_SERVER = join(ROOT, 'scripts/s3-server');
/** The variable that names the directory of this run's server. */
export const S3_DIR = 'TEST_S3_DIR';

/** Gives the run a place for its S3 server, which a test that needs it starts; it ends with the run. */
export function setup(): () => void {
  const dir = mkdtempSync(join(tmpdir(), 'tvix-store-s3-'));
  process.env[S3_DIR] = dir;
  return () => {
    spawnSync(S3_SERVER, ['stop', dir]);
    rmSync(dir, { recursive: true, force: true });
  };
}
