import { beforeAll, describe, expect, test } from 'vitest';
import { CLI, type Result, run, tvixStore } from '../helpers/cli.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

const dir = tempDir();
const store = `local://${dir}/store`;
let path = '';

beforeAll(async () => {
  writeTree(`${dir}/tree`, directory({ file: file('contents'), large: file(Buffer.alloc(3_000_000, 'x')) }));
  const { stdout } = await tvixStore(['import', '--store', store, `${dir}/tree`]);
  path = stdout.trim();
  await tvixStore(['root', 'add', '--store', store, 'root', path]);
  await tvixStore(['key', 'generate', 'key-1', '--file', `${dir}/key`]);
});

/** Every command that prints; STORE and PATH stand for those of this test. */
const PRINTING = [
  'ls --store STORE',
  'ls -lR --store STORE PATH',
  'ls --json --store STORE PATH',
  'cat --store STORE PATH/file',
  'cat --store STORE PATH/large',
  'nar dump --store STORE PATH',
  'nar ls --store STORE PATH',
  'nar import --store memory: --name tree DIR/nar',
  'path-info --store STORE',
  'path-info --store STORE --json',
  'path-info --store STORE PATH',
  'nix-db --store STORE PATH',
  'stats --store STORE',
  'stats --store STORE --json',
  'verify --store STORE --all',
  'verify --store STORE --all --json',
  'fsck --store STORE',
  'fsck --store STORE --json',
  'gc --store STORE --dry-run',
  'root list --store STORE',
  'import --store memory: DIR/tree',
  'copy --store STORE --to memory: PATH',
  'copy --store STORE --to memory: --json --dry-run PATH',
  'sign --store STORE --key-file DIR/key PATH',
  'key generate key-2',
  'key public --file DIR/key',
  '--version',
  '--help',
  'ls --help',
];

/** Runs a command in a shell, with what the shell is to do with its descriptors. */
function inShell(command: string, redirections: string): Promise<Result> {
  const args = command.replace('STORE', store).replace('PATH', path).replaceAll('DIR', dir);
  return run('bash', ['-c', `"$0" "$1" ${args} ${redirections}`, process.execPath, CLI]);
}

beforeAll(() =>
  run('bash', ['-c', `"$0" "$1" nar dump --store ${store} ${path} > ${dir}/nar`, process.execPath, CLI]),
);

describe.concurrent('an output that takes nothing', () => {
  test.each(PRINTING)('is an error of %s when the disk behind it is full', async (command) => {
    const { status, stderr } = await inShell(command, '> /dev/full');
    const errors = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('info: '));
    expect({ status, errors }).toEqual({
      status: 1,
      errors: ['error: cannot write to standard output: no space left on device'],
    });
  });

  test.each(PRINTING.filter((_, i) => i % 4 === 0))(
    'ends %s quietly when its reader has had enough',
    async (command) => {
      const { stdout, stderr } = await inShell(command, '| head -c 0; echo "$PIPESTATUS"');
      expect(stdout).toBe('0\n');
      expect(stderr.replace(/^info: .*\n/gm, '')).toBe('');
    },
  );
});

describe.concurrent('a standard descriptor that is closed', () => {
  test.each(['>&-', '2>&-', '<&-', '<&- >&- 2>&-'])('%s is no reason to fail', async (closed) => {
    for (const command of [
      'ls --store STORE',
      'cat --store STORE PATH/large',
      'import --store memory: DIR/tree',
    ]) {
      const { status, stderr } = await inShell(command, closed);
      expect([command, status, stderr]).toEqual([command, 0, '']);
    }
  });

  test.each(['2>&-', '2> /dev/full'])('%s leaves the exit code of a failure', async (redirection) => {
    expect((await inShell('cat --store STORE PATH/none', redirection)).status).toBe(1);
    expect((await inShell('frobnicate', redirection)).status).toBe(2);
  });
});
