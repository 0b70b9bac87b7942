import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run, tvixStore } from '../helpers/cli.ts';
import { DRIVERS, mount } from '../helpers/mount.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

test.each(DRIVERS)('the closing line of driver %s names what the kernel asked', async (driver) => {
  const store = `local://${join(tempDir(), 'store')}`;
  const tree = join(tempDir(), 'tree');
  writeTree(tree, directory({ file: file('contents') }));
  const { stdout } = await tvixStore(['import', '--store', store, tree]);
  const mounted = await mount(['--store', store, '--driver', driver]);
  const path = join(mounted.dir, stdout.trim().split('/').pop()!, 'file');
  // With the time of birth, which the kernel asks for by an operation of its own.
  expect((await run('stat', ['--format=%W %s', path])).stdout).toBe('0 8\n');
  expect((await run('cat', [path])).stdout).toBe('contents');
  const { log } = await mounted.stop();
  const [, kinds] = /info: unmounted requests=\d+ kinds="([^"]*)"/.exec(log)!;
  expect(kinds).toMatch(/\bread 1\b/);
  expect(kinds).not.toMatch(/op\d/);
  expect(log).toMatch(/\bpaths=1\b/);
});
