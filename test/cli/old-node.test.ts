import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CLI, ROOT, run } from '../helpers/cli.ts';

const NEEDED = [22, 19] as const;

/** A Node on this machine that is too old, if there is one. */
function oldNode(): { path: string; version: string } | undefined {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/bin', '/usr/local/bin'];
  for (const path of folders.map((folder) => join(folder, 'node'))) {
    const version = spawnSync(path, ['--version'], { encoding: 'utf8' }).stdout?.trim();
    const [, major, minor] = /^v(\d+)\.(\d+)/.exec(version ?? '') ?? [];
    if (Number(major) < NEEDED[0] || (Number(major) === NEEDED[0] && Number(minor) < NEEDED[1]))
      return { path, version: version! };
  }
  return undefined;
}

const old = oldNode();
const without = old ? '' : ' (skipped: there is no older Node on this machine)';

test.skipIf(!old)(`a Node that is too old is told in one line, with exit code 2${without}`, async () => {
  for (const args of [[], ['ls'], ['mount', '/mnt'], ['--version']]) {
    const { status, stdout, stderr } = await run(old!.path, [CLI, ...args]);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^tvix-store needs Node 22\.19 or newer; this is v\S+ \(\/.*\)\. .*\n$/);
    expect(stderr).toContain(`this is ${old!.version} (`);
    expect(stderr.split('\n')).toHaveLength(2);
  }
});

test('the file that tells so can be read by any Node: it imports and awaits nothing at its top', () => {
  const lines = readFileSync(CLI, 'utf8').split('\n');
  expect(
    lines.filter((line) => /^(?:import|export \{? ?\w|.*\bawait\b)/.test(line) && !/^\s/.test(line)),
  ).toEqual([]);
});

test('the version that is asked for is that of package.json', () => {
  const { engines } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  expect(engines.node).toBe(`>=${NEEDED.join('.')} <23 || >=24`);
  expect(readFileSync(CLI, 'utf8')).toContain(`[${NEEDED.join(', ')}]`);
});
