import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CLI, type Result, run, tvixStore } from '../helpers/cli.ts';
import { DRIVERS } from '../helpers/mount.ts';
import { tempDir } from '../helpers/temp.ts';

const dir = tempDir();
const store = `local://${dir}/store`;
const logFile = join(dir, 'log');
let name = '';

beforeAll(async () => {
  writeFileSync(join(dir, 'file'), 'contents');
  const { stdout } = await tvixStore(['import', '--store', store, join(dir, 'file')]);
  name = stdout.trim().slice('/nix/store/'.length);
});

const pids = new Set<number>();
const mounts: string[] = [];
afterAll(async () => {
  for (const pid of pids) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
  for (const at of mounts) await run('umount', ['-l', at]);
});

function mountPoint(): string {
  const at = join(tempDir(), 'mnt');
  mkdirSync(at);
  mounts.push(at);
  return at;
}

/** Runs a command that leaves a process behind, whose id it prints. */
async function inBackground(...args: string[]): Promise<Result & { pid: number }> {
  const result = await tvixStore([
    ...args.slice(0, 1),
    '--background',
    '--log-file',
    logFile,
    ...args.slice(1),
  ]);
  const pid = Number(/\d+/.exec(result.stdout)?.[0]);
  pids.add(pid);
  return { ...result, pid };
}

/** A process that has ended may wait for init to look at it. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

async function hasEnded(pid: number): Promise<boolean> {
  for (let i = 0; i < 300 && isAlive(pid); i++) await delay(100);
  return !isAlive(pid);
}

function isMounted(at: string): boolean {
  return readFileSync('/proc/self/mounts', 'utf8').includes(` ${at} `);
}

/** Processes whose command line has this in it. */
function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      try {
        return pid > 0 && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text) && isAlive(pid);
      } catch {
        return false;
      }
    });
}

describe('mount --background', () => {
  test.each(DRIVERS)(
    'returns when it is mounted, with the id of a process of its own (%s)',
    async (driver) => {
      const at = mountPoint();
      const { status, stdout, stderr, pid } = await inBackground(
        'mount',
        '--store',
        store,
        '--driver',
        driver,
        at,
      );
      expect([status, stdout]).toEqual([0, `${pid}\n`]);
      expect(stderr).toMatch(new RegExp(`^info: mounted at=${at} store=\\S+ pid=${pid} log=${logFile}\n$`));
      expect(isMounted(at)).toBe(true);
      expect(await readFile(join(at, name), 'utf8')).toBe('contents');

      const [, , group, session] = readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ');
      expect([Number(group), Number(session)]).toEqual([pid, pid]);
      expect(readlinkSync(`/proc/${pid}/cwd`)).toBe('/');
      const standard = [0, 1, 2].map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
      expect(standard).toEqual(['/dev/null', logFile, logFile]);

      process.kill(pid, 'SIGUSR1');
      await expect.poll(() => readFileSync(logFile, 'utf8'), { timeout: 10_000 }).toContain('info: so far ');

      expect((await run('umount', [at])).status).toBe(0);
      expect(await hasEnded(pid)).toBe(true);
      expect(readFileSync(logFile, 'utf8')).toContain('info: unmounted ');
      writeFileSync(logFile, '');
    },
  );

  test('is told as JSON as well, and takes paths relative to where it was called', async () => {
    const at = mountPoint();
    const cwd = join(at, '..');
    const args = ['mount', '--background', '--json', '--log-file', 'log', '--store', 'local:relative', 'mnt'];
    await tvixStore(['import', '--store', `local://${cwd}/relative`, join(dir, 'file')]);
    const { status, stdout } = await tvixStore(args, { cwd });
    const told = JSON.parse(stdout);
    pids.add(told.pid);
    expect([status, told]).toEqual([
      0,
      { pid: told.pid, at, store: 'local:relative', logFile: join(cwd, 'log') },
    ]);
    expect(await readFile(join(at, name), 'utf8')).toBe('contents');
    process.kill(told.pid, 'SIGTERM');
    expect(await hasEnded(told.pid)).toBe(true);
    expect(isMounted(at)).toBe(false);
    expect(readFileSync(join(cwd, 'log'), 'utf8')).toMatch(/^\{.*"requests"/m);
  });

  test('closes the pipes of the script that calls it', async () => {
    const at = mountPoint();
    const script =
      'x=$("$0" "$1" mount --background --log-file "$2" --store "$3" "$4" 2>&1); echo "$? $x"; ls "$4/$5"';
    const { stdout } = await run('sh', ['-c', script, process.execPath, CLI, logFile, store, at, name]);
    const pid = Number(/pid=(\d+)/.exec(stdout)![1]);
    pids.add(pid);
    expect(stdout).toMatch(/^0 info: mounted /);
    expect(stdout).toContain(`${at}/${name}\n`);
    expect((await run('fusermount3', ['-u', at])).status).toBe(0);
    expect(await hasEnded(pid)).toBe(true);
  });

  test.each([
    [1, 'does not exist', () => ['--store', store, join(dir, 'nowhere')]],
    [1, 'is not a directory', () => ['--store', store, join(dir, 'file')]],
    [1, 'cannot log to a file', () => ['--store', store, '--log-file', `${dir}/file/log`, mountPoint()]],
    [2, 'not an address', () => ['--store', 'nonsense', mountPoint()]],
    [2, '--offline has no effect here', () => ['--store', store, '--offline', mountPoint()]],
  ])('ends with %d and says why when it cannot mount: %s', async (code, why, argsOf) => {
    const args = argsOf();
    const at = args.at(-1)!;
    const log = join(tempDir(), 'log');
    const { status, stdout, stderr } = await tvixStore(['mount', '--background', '--log-file', log, ...args]);
    expect([status, stdout]).toEqual([code, '']);
    expect(stderr).toMatch(/^error: .*\n(?:\(see tvix-store mount --help\)\n)?$/);
    expect(stderr).toContain(why);
    expect(isMounted(at)).toBe(false);
    expect(existsSync(log)).toBe(false);
    expect(processesWith(at)).toEqual([]);
  });

  test.each(['SIGKILL', 'SIGINT'] as const)(
    'leaves nothing when %s ends the one that waits for it',
    async (signal) => {
      const at = mountPoint();
      const fifo = join(tempDir(), 'composition');
      await run('mkfifo', [fifo]);
      const args = [CLI, 'mount', '--background', '--log-file', logFile, '--store-composition', fifo, at];
      const waiting = spawn(process.execPath, args, { stdio: 'ignore' });
      const ended = once(waiting, 'exit');
      // The one that is to serve waits for its composition.
      const serving = () => processesWith(fifo).filter((pid) => pid !== waiting.pid);
      while (serving().length === 0) await delay(50);
      const [pid] = serving();
      pids.add(pid!);
      waiting.kill(signal);
      await ended;
      const kinds = ['blobservices', 'directoryservices', 'pathinfoservices'];
      const composition = kinds.map((kind) => `[${kind}.root]\ntype = "local"\npath = "${dir}/store"\n`);
      writeFileSync(fifo, composition.join(''));
      expect(await hasEnded(pid!)).toBe(true);
      expect(isMounted(at)).toBe(false);
    },
  );
});

describe('--background', () => {
  test.each([
    ['daemon', ['-l', '127.0.0.1:0'], 'listening'],
    ['nar-bridge', ['-l', '127.0.0.1:0'], 'listening'],
    ['nix-daemon', ['-l', `${dir}/nix-socket`], 'listening'],
    ['virtiofs', [`${dir}/socket`], 'listening'],
  ])('of %s returns when it listens', async (command, args, begun) => {
    const { status, stderr, pid } = await inBackground(command, '--store', store, ...args);
    expect([status, stderr]).toEqual([0, expect.stringContaining(`info: ${begun} at=`)]);
    expect(isAlive(pid)).toBe(true);
    process.kill(pid, 'SIGTERM');
    expect(await hasEnded(pid)).toBe(true);
  });

  test('logs below /var/log, or in the state folder of a user, if no file is named', async () => {
    const home = tempDir();
    const root = process.getuid?.() === 0;
    const env = { PATH: process.env.PATH, XDG_STATE_HOME: join(home, 'state') };
    if (root) await run('chown', ['65534:65534', home]);
    const user = root ? { uid: 65_534, gid: 65_534 } : {};
    const args = ['daemon', '--background', '--store', 'memory:', '-l', '127.0.0.1:0'];
    const { status, stdout } = await tvixStore(args, { env, ...user });
    const pid = Number(stdout);
    pids.add(pid);
    expect(status).toBe(0);
    const [log, ...others] = readdirSync(join(home, 'state/tvix-store'));
    expect([log, others]).toEqual([expect.stringMatching(/^daemon-127\.0\.0\.1:\d+\.log$/), []]);
    process.kill(pid, 'SIGTERM');
    expect(await hasEnded(pid)).toBe(true);
  });

  test('is what --log-file goes with', async () => {
    const { status, stderr } = await tvixStore(['mount', '--log-file', logFile, mountPoint()]);
    expect([status, stderr]).toEqual([2, expect.stringContaining('--log-file goes with --background')]);
  });
});
