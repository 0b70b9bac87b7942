import { beforeAll, expect, test } from 'vitest';
import { CLI, run, tvixStore } from '../helpers/cli.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, generateTree, writeTree } from '../helpers/trees.ts';

const dir = tempDir();
const store = `local://${dir}/store`;
const bucket = `objectstore+file://${dir}/bucket`;
let path = '';
let other = '';

/** Runs a command with a terminal as its standard error alone; prints what came there. */
const ON_TERMINAL = `
import os, pty, subprocess, sys
primary, secondary = pty.openpty()
child = subprocess.Popen(sys.argv[1:], stderr=secondary, stdout=subprocess.DEVNULL)
os.close(secondary)
try:
    while part := os.read(primary, 65536): sys.stdout.buffer.write(part)
except OSError: pass
sys.exit(child.wait())
`;

beforeAll(async () => {
  writeTree(`${dir}/tree`, directory({ tree: generateTree(60, 3) }));
  path = (await tvixStore(['import', '--store', store, `${dir}/tree`])).stdout.trim();
  writeTree(`${dir}/other`, directory({ tree: generateTree(60, 4) }));
  other = (await tvixStore(['import', '--store', store, `${dir}/other`])).stdout.trim();
  await tvixStore(['copy', '--from', store, '--to', bucket, path]);
  await tvixStore(['key', 'generate', '--file', `${dir}/key`, 'key-1']);
});

test.each([
  'import --store memory: DIR/tree',
  'sign --all --store STORE --key-file DIR/key',
  'verify --all --store STORE',
  'stats --store STORE',
  'diff --summary --store STORE PATH OTHER',
  'gc --store STORE',
  'why --store STORE PATH',
  'du --store STORE PATH',
  'du --all --store BUCKET',
  'fsck --store STORE',
  'copy --store STORE --to memory: PATH',
  'warm --store BUCKET --cache DIR/cache PATH',
])(
  '%s shows on a terminal how far it is, takes that away, and says nothing of it in a pipe',
  async (command) => {
    const args = command
      .replace('STORE', store)
      .replace('BUCKET', bucket)
      .replace('PATH', path)
      .replace('OTHER', other)
      .replaceAll('DIR', dir)
      .split(' ');
    const shown = await run('python3', ['-c', ON_TERMINAL, process.execPath, CLI, ...args]);
    expect(shown.status).toBe(0);
    const text = shown.stdout.replaceAll('\r\x1b[K', '|').replace(/info: .*\r?\n/g, '');
    // A line, and then nothing in its place.
    expect(text).toMatch(/^(?:\|[^|\r\n]*)*\|[^|\r\n]+\|+$/);
    const piped = await tvixStore(args);
    expect([piped.status, piped.stderr.replace(/^info: .*\n/gm, '')]).toEqual([0, '']);
  },
);
