import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ROOT } from './cli.ts';

/** A Python with grpcio, or why there is none. Installs it the first time. */
export function pythonWithGrpc(): { python: string } | { missing: string } {
  const { status, stdout, stderr, error } = spawnSync(join(ROOT, 'scripts/python-grpc'), {
    encoding: 'utf8',
    timeout: 300_000,
  });
  if (status === 0) return { python: stdout.trim() };
  return { missing: (error?.message ?? stderr.trim()) || 'scripts/python-grpc failed' };
}
