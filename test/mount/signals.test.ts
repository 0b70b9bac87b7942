import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { CLI, printedBy, run, tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { endLater, mount } from '../helpers/mount.ts';
import { tempDir } from '../helpers/temp.ts';
import { killLater } from '../helpers/virtiofs.ts';

const dir = tempDir();
const store = `local://${dir}/store`;
let name: string;

beforeAll(async () => {
  const tree = join(dir, 'tree');
  mkdirSync(tree);
  for (const file of ['one', 'two']) writeFileSync(join(tree, file), `contents of ${file}`);
  const { stdout } = await tvixStore(['import', '--store', store, tree]);
  name = stdout.trim().slice('/nix/store/'.length);
});

/** A pipe by name, and its writer's end once somebody reads from it. */
async function fifoIn(folder: string): Promise<{ path: string; whenRead: () => Promise<number> }> {
  const path = join(folder, 'fifo');
  await run('mkfifo', [path]);
  const whenRead = async () => {
    for (;;) {
      try {
        return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
      } catch {
        await delay(20);
      }
    }
  };
  return { path, whenRead };
}

/** Opens the debugger as a signal does that comes before the program does. */
const OPENER = `data:text/javascript,import { open } from 'node:inspector'; open(0, '127.0.0.1');`;

describe('SIGUSR1', () => {
  test('leaves no debugger open when it comes before the program itself', async () => {
    const options = { env: { ...process.env, NODE_OPTIONS: `--import="${OPENER}"` } };
    const mounted = await mount(['--store', store], undefined, options);
    const port = Number(/Debugger listening on ws:\/\/127\.0\.0\.1:(\d+)/.exec(mounted.log())![1]);
    const socket = connect(port, '127.0.0.1');
    expect(await once(socket, 'connect').catch((error) => error)).toMatchObject({ code: 'ECONNREFUSED' });
    expect((await mounted.stop()).status).toBe(0);
  });

  const composition = ['blobservices', 'directoryservices', 'pathinfoservices']
    .map((kind) => `[${kind}.root]\ntype = "local"\npath = "${dir}/store"\n`)
    .join('');

  // Each waits for its composition, so that it is somewhere in the middle.
  test.each([
    ['mount', (path: string) => ['mount', '--store-composition', path, '/nowhere']],
    ['virtiofs', (path: string) => ['virtiofs', '--store-composition', path, '/nowhere/socket']],
    ['daemon', (path: string) => ['daemon', '--store-composition', path, '-l', '/nowhere/socket']],
    ['nar-bridge', (path: string) => ['nar-bridge', '--store-composition', path, '-l', '/nowhere/socket']],
    ['nix-daemon', (path: string) => ['nix-daemon', '--store-composition', path, '-l', '/nowhere/socket']],
    ['import', (path: string) => ['import', '--store-composition', path, '/nowhere']],
    ['copy', (path: string) => ['copy', '--store-composition', path, '--to', 'memory:', '--all']],
  ])('opens no debugger in %s that has only just begun', async (_, args) => {
    const { path, whenRead } = await fifoIn(tempDir());
    const child = spawn(process.execPath, [CLI, ...args(path)], { stdio: ['ignore', 'pipe', 'pipe'] });
    killLater(child);
    const printed = printedBy(child);
    const ended = once(child, 'close');
    const writer = await whenRead();
    child.kill('SIGUSR1');
    await delay(50);
    writeSync(writer, composition);
    closeSync(writer);
    await ended;
    expect(printed.stderr).not.toContain('Debugger');
    expect(child.signalCode).toBe(null);
  });

  test('opens no debugger in a daemon that listens, which goes on', async () => {
    const daemon = await startDaemon(store);
    for (let i = 0; i < 3; i++) {
      daemon.child.kill('SIGUSR1');
      await delay(100);
    }
    expect(await daemon.stop()).toBe(0);
    expect(daemon.log()).not.toContain('Debugger');
  });

  test('writes statistics to a log, and to an output that nobody reads any more', async () => {
    const mounted = await mount(['--json', '--store', store], undefined, {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    expect((await run('cat', [join(mounted.dir, name, 'one')])).status).toBe(0);
    // As `| head -n 1` would.
    mounted.child.stdout!.destroy();
    for (let i = 1; i <= 3; i++) {
      process.kill(mounted.pid, 'SIGUSR1');
      await expect.poll(() => mounted.log().split('info: so far').length - 1, { timeout: 20_000 }).toBe(i);
    }
    expect((await run('cat', [join(mounted.dir, name, 'two')])).stdout).toBe('contents of two');
    expect(await mounted.stop()).toMatchObject({ status: 0 });
  });
});

/** Runs a program with a terminal as its log; a line on standard input stops what the terminal shows, as Ctrl-S does. */
const ON_TERMINAL = `
import os, pty, subprocess, sys, termios
master, slave = pty.openpty()
child = subprocess.Popen(sys.argv[1:], stderr=slave)
print(child.pid, flush=True)
sys.stdin.readline()
termios.tcflow(slave, termios.TCOOFF)
print('stopped', flush=True)
sys.exit(child.wait())
`;

test('a terminal that is stopped does not hold up what a mount fetches, nor its end', async () => {
  const daemon = await startDaemon(store);
  const mnt = join(tempDir(), 'mnt');
  mkdirSync(mnt);
  const far = ['--store', daemon.url, '--cache', join(tempDir(), 'cache')];
  const args = ['-c', ON_TERMINAL, process.execPath, CLI, 'mount', ...far, mnt];
  const terminal = spawn('python3', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  endLater(terminal, mnt);
  const printed = printedBy(terminal);
  const isMounted = () => readFileSync('/proc/self/mounts', 'utf8').includes(` ${mnt} `);
  await expect.poll(isMounted, { timeout: 30_000 }).toBe(true);
  expect((await run('cat', [join(mnt, name, 'one')])).stdout).toBe('contents of one');
  terminal.stdin.write('\n');
  await expect.poll(() => printed.stdout, { timeout: 20_000 }).toContain('stopped');
  const pid = Number.parseInt(printed.stdout, 10);
  process.kill(pid, 'SIGUSR1');
  expect((await run('cat', [join(mnt, name, 'two')], { timeout: 20_000 })).stdout).toBe('contents of two');
  const ended = once(terminal, 'exit');
  process.kill(pid, 'SIGTERM');
  expect(await ended).toEqual([0, null]);
  expect(isMounted()).toBe(false);
});

describe('signals that end a mount', () => {
  test.each([
    ['SIGTERM', 'SIGTERM'],
    ['SIGINT', 'SIGINT'],
    ['SIGTERM', 'SIGINT'],
    ['SIGHUP', 'SIGTERM'],
  ] as const)('%s and %s at once end it well, though it is in use', async (first, second) => {
    const { dir: at, pid, stop } = await mount(['--store', store]);
    const user = spawn('sleep', ['60'], { cwd: join(at, name), stdio: 'ignore' });
    try {
      const stopped = stop(first);
      process.kill(pid, second);
      const { status, log } = await stopped;
      expect([status, log]).toEqual([0, expect.stringContaining('info: unmounted')]);
      expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(at);
    } finally {
      user.kill();
    }
  });
});
