import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe } from 'vitest';
import { ROOT } from './cli.ts';

/**
 * Declares tests with a program that is not ours; its path is '' where it cannot be had, and they are skipped by a
 * name that says why. `scripts/<name>` installs it the first time, and prints its path.
 */
export function describeWith(
  name: 'python-grpc' | 'grpcurl' | 'promtool',
  title: string,
  tests: (program: string) => void,
): void {
  const { status, stdout, stderr, error } = spawnSync(join(ROOT, 'scripts', name), {
    encoding: 'utf8',
    timeout: 600_000,
  });
  if (status === 0) {
    describe(title, () => tests(stdout.trim()));
    return;
  }
  const missing = (error?.message ?? stderr.trim()) || `scripts/${name} failed`;
  describe.skip(`${title} (${missing})`, () => tests(''));
}
