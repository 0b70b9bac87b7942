import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { startTvixStore, tvixStore } from '../helpers/cli.ts';
import { FakeGuest } from '../helpers/fake-guest.ts';
import { tempDir } from '../helpers/temp.ts';
import { file, writeTree } from '../helpers/trees.ts';

const JSON_LOG = ['--log-format', 'json'];
const store = `local://${join(tempDir(), 'a store')}`;

beforeAll(async () => {
  const content = join(tempDir(), 'content');
  writeTree(content, file('content'));
  await tvixStore(['import', '--store', store, content]);
});

interface Line {
  readonly time: string;
  readonly level: string;
  readonly message: string;
  readonly fields: Record<string, unknown>;
}

function linesOf(log: string): Line[] {
  return log
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}

/** Runs a command until it serves, does something meanwhile, and gives all that it has logged. */
async function logOf(args: string[], begun: string, work = async () => {}): Promise<Line[]> {
  const child = await startTvixStore([...JSON_LOG, ...args, '--store', store], `"message":"${begun}"`);
  onTestFinished(() => void child.kill('SIGKILL'));
  await work();
  const ended = once(child, 'close');
  child.kill('SIGTERM');
  await ended;
  return linesOf(child.log());
}

test.each(['daemon', 'nar-bridge', 'nix-daemon'])(
  '%s logs each line as an object of JSON',
  async (command) => {
    const socket = join(tempDir(), 'socket');
    const lines = await logOf([command, '-l', socket], 'listening');
    expect(lines.map(({ level, message }) => [level, message])).toEqual([
      ['info', 'listening'],
      ['info', 'stopping'],
    ]);
    expect(lines[0]!.fields).toEqual({ at: socket, store });
    for (const { time } of lines) expect(new Date(time).toISOString()).toBe(time);
  },
);

test('mount does, with numbers as such', async () => {
  const dir = join(tempDir(), 'mnt');
  mkdirSync(dir);
  onTestFinished(() => void spawnSync('umount', ['-l', dir], { stdio: 'ignore' }));
  const [mounted, ...others] = await logOf(['mount', dir], 'mounted');
  expect(mounted).toMatchObject({ level: 'info', fields: { at: dir, store } });
  expect(others.at(-1)).toMatchObject({ message: 'unmounted', fields: { files: 0, paths: 0 } });
});

test('the threads of virtiofs do, too', async () => {
  const socket = join(tempDir(), 'socket');
  const lines = await logOf(['virtiofs', socket], 'listening', async () => {
    const guest = await FakeGuest.connect(socket);
    await guest.init();
    guest.disconnect();
  });
  expect(lines.map(({ message }) => message)).toContain('a guest has come');
});

test('what ends a command is such a line, too, also by the environment', async () => {
  const env = { ...process.env, TVIX_LOG_FORMAT: 'json' };
  const { status, stderr } = await tvixStore(['daemon', '--store', store, '-l', '/none/socket'], { env });
  expect(status).toBe(1);
  expect(linesOf(stderr)).toMatchObject([
    { level: 'error', message: 'cannot listen on /none/socket: there is no directory /none', fields: {} },
  ]);
});
