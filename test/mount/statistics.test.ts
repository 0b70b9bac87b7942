import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { CLI, run, tvixStore } from '../helpers/cli.ts';
import { DRIVERS, mount } from '../helpers/mount.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

const store = `local://${join(tempDir(), 'store')}`;
let name: string;

beforeAll(async () => {
  const tree = join(tempDir(), 'tree');
  writeTree(tree, directory({ file: file('contents') }));
  name = (await tvixStore(['import', '--store', store, tree])).stdout.trim().split('/').pop()!;
});

describe.each(DRIVERS)('driver %s', (driver) => {
  test('names in its closing line what the kernel asked, and says nothing but its log', async () => {
    const mounted = await mount(['--store', store, '--driver', driver]);
    const path = join(mounted.dir, name, 'file');
    // With the time of birth, for which the kernel has an operation of its own.
    expect((await run('stat', ['--format=%W %s', path])).stdout).toBe(
      driver === 'kernel' ? '1 8\n' : '0 8\n',
    );
    expect((await run('cat', [path])).stdout).toBe('contents');
    const { log } = await mounted.stop();
    const [, kinds] = /info: unmounted requests=\d+ kinds="([^"]*)"/.exec(log)!;
    expect(kinds).toMatch(/\bread 1\b/);
    expect(kinds).not.toMatch(/op\d/);
    expect(log).toMatch(/\bpaths=1\b/);
    // No warning of Node's, of whatever version.
    expect(
      log
        .trim()
        .split('\n')
        .filter((line) => !line.startsWith('info: ')),
    ).toEqual([]);
  });

  test('tells so far at SIGUSR1, for which Node would open its inspector', async () => {
    const mounted = await mount(['--store', store, '--driver', driver]);
    expect((await run('cat', [join(mounted.dir, name, 'file')])).stdout).toBe('contents');
    for (let i = 0; i < 3; i++) process.kill(mounted.pid, 'SIGUSR1');
    await expect.poll(() => mounted.log(), { timeout: 10_000 }).toMatch(/^info: so far requests=[1-9]/m);
    const { status, log } = await mounted.stop();
    expect(status).toBe(0);
    expect(log).not.toContain('Debugger');
  });
});

test('V8 knows the flag that the program sets, and has nothing to say of it', async () => {
  expect((await run(process.execPath, ['--v8-options'])).stdout).toContain('--incremental-marking');
  expect(await run(process.execPath, [CLI, '--version'])).toMatchObject({ status: 0, stderr: '' });
});
