import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT, run, startTvixStore, tvixStore } from '../helpers/cli.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { GatedMount } from '../helpers/gated-mount.ts';
import type { TestMount } from '../helpers/mount.ts';
import { DRIVERS, endLater, mount } from '../helpers/mount.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

/** A second, and room for a busy machine. */
const SOON_MS = 3000;
const NOBODY = 65534;

const store = `local://${tempDir()}/store`;
let name: string;

beforeAll(async () => {
  const source = join(tempDir(), 'tree');
  writeTree(source, directory({ file: file('contents'), deep: directory({ leaf: file('leaf') }) }));
  const { stdout } = await tvixStore(['import', '--store', store, source]);
  name = stdout.trim().split('/').pop()!;
});

function isMounted(dir: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${dir} `);
}

/** Starts a program that stays, and resolves when it has said so. */
async function startUser(script: string): Promise<{ end(): void }> {
  const child = spawn('sh', ['-c', `${script}; echo here; exec sleep 60`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout!, 'data');
  return { end: () => child.kill('SIGKILL') };
}

async function expectCleanEnd(mounted: TestMount, signal: NodeJS.Signals): Promise<void> {
  const { status, took, log } = await mounted.stop(signal);
  expect([signal, status, log]).toEqual([signal, 0, expect.stringContaining('info: unmounted')]);
  expect(took).toBeLessThan(SOON_MS);
  expect(isMounted(mounted.dir)).toBe(false);
  expect(await run('ls', ['-A', mounted.dir])).toMatchObject({ status: 0, stdout: '' });
}

describe.each(DRIVERS)('driver %s', (driver) => {
  const args = () => ['--store', store, '--driver', driver];

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s unmounts and ends', async (signal) => {
    const mounted = await mount(args());
    expect((await run('cat', [join(mounted.dir, name, 'file')])).stdout).toBe('contents');
    await expectCleanEnd(mounted, signal);
  });

  test.each([
    ['in it', (dir: string) => `cd ${dir}/${name}/deep`],
    ['with an open file', (dir: string) => `exec 3< ${dir}/${name}/file`],
  ])('a process %s does not keep it', async (_, enter) => {
    const mounted = await mount(args());
    const user = await startUser(enter(mounted.dir));
    await expectCleanEnd(mounted, 'SIGTERM');
    user.end();
  });

  test('it ends when somebody else unmounts', async () => {
    const dir = join(tempDir(), 'mnt');
    mkdirSync(dir);
    const child = await startTvixStore(['mount', ...args(), dir], 'info: mounted');
    endLater(child, dir);
    const ended = once(child, 'exit');
    expect(await run('umount', [dir])).toMatchObject({ status: 0 });
    expect(await ended).toEqual([0, null]);
    expect(child.log()).toContain('info: unmounted');
  });

  test.each(['fresh', 'used'])('the next mount cleans up after a killed one, a %s one', async (state) => {
    const killed = await mount(args());
    // What the kernel knows of it by then must not make it look alive.
    if (state === 'used') await run('stat', [join(killed.dir, name), killed.dir]);
    await killed.stop('SIGKILL');
    expect(isMounted(killed.dir)).toBe(true);
    const mounted = await mount(args(), killed.dir);
    expect((await run('cat', [join(mounted.dir, name, 'file')])).stdout).toBe('contents');
    await expectCleanEnd(mounted, 'SIGTERM');
  });
});

describe('is refused', () => {
  const refused = async (dir: string, why: string, args: string[] = []) => {
    const { status, stderr } = await tvixStore(['mount', '--store', store, ...args, dir]);
    expect([status, stderr.trim().split('\n').pop()]).toEqual([1, expect.stringContaining(why)]);
  };

  test('where a mount is already, which stays', async () => {
    const mounted = await mount(['--store', store]);
    await refused(mounted.dir, 'mounted');
    // By another name of the directory, too.
    const link = join(tempDir(), 'link');
    symlinkSync(mounted.dir, link);
    await refused(link, 'mounted');
    expect((await run('cat', [join(mounted.dir, name, 'file')])).stdout).toBe('contents');
    await expectCleanEnd(mounted, 'SIGTERM');
  });

  test('on a directory that does not exist, and on a file', async () => {
    await refused(join(tempDir(), 'missing'), 'does not exist; make the directory first');
    const path = join(tempDir(), 'file');
    writeFileSync(path, '');
    await refused(path, 'is not a directory');
  });

  test('with fuse-native when that package is not installed, and says so', async () => {
    const dir = tempDir();
    cpSync(join(ROOT, 'dist'), join(dir, 'dist'), { recursive: true });
    cpSync(join(ROOT, 'package.json'), join(dir, 'package.json'));
    mkdirSync(join(dir, 'node_modules'));
    for (const entry of readdirSync(join(ROOT, 'node_modules'))) {
      if (entry !== 'fuse-native')
        symlinkSync(join(ROOT, 'node_modules', entry), join(dir, 'node_modules', entry));
    }
    const mnt = join(dir, 'mnt');
    mkdirSync(mnt);
    const args = ['mount', '--store', store, '--driver', 'fuse-native', mnt];
    const { status, stderr } = await run(process.execPath, [join(dir, 'dist/cli/main.js'), ...args]);
    expect([status, stderr]).toEqual([1, expect.stringContaining('needs the npm package "fuse-native"')]);
    expect(isMounted(mnt)).toBe(false);
  });
});

test.each([
  ['a path', (dir: string) => join(dir, 'notify')],
  ['an abstract name', (dir: string) => `@${dir}/notify`],
])('tells systemd when it is ready and when it ends, at %s', async (_, address) => {
  const dir = tempDir();
  const script = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace('@', '\\0', 1) if sys.argv[1][0] == '@' else sys.argv[1])
print('bound', flush=True)
while True: print(s.recv(100).decode(), flush=True)
`;
  const socket = address(dir);
  const systemd = spawn('python3', ['-c', script, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
  let heard = '';
  systemd.stdout.setEncoding('utf8').on('data', (part: string) => {
    heard += part;
  });
  try {
    await expect.poll(() => heard, { timeout: 20_000 }).toBe('bound\n');
    const mounted = await mount(['--store', store], undefined, {
      env: { ...process.env, NOTIFY_SOCKET: socket },
    });
    await expect.poll(() => heard, { timeout: 20_000 }).toBe('bound\nREADY=1\nSTATUS=serving\n');
    await mounted.stop();
    await expect.poll(() => heard, { timeout: 20_000 }).toBe('bound\nREADY=1\nSTATUS=serving\nSTOPPING=1\n');
  } finally {
    systemd.kill('SIGKILL');
  }
});

const isRoot = process.getuid!() === 0;

/** Whether an ordinary user could run this program and mount. */
function nobodyCan(): boolean {
  const user = { uid: NOBODY, gid: NOBODY, stdio: 'ignore' } as const;
  return (
    isRoot &&
    spawnSync(process.execPath, [join(ROOT, 'dist/cli/main.js'), '--help'], user).status === 0 &&
    spawnSync('fusermount3', ['--version'], user).status === 0
  );
}

describe.runIf(nobodyCan())('for an ordinary user', () => {
  const dir = tempDir();
  const own = (entry: string) => {
    const path = join(dir, entry);
    mkdirSync(path);
    chownSync(path, NOBODY, NOBODY);
    return path;
  };
  const env = { PATH: process.env.PATH, HOME: dir, TVIX_STORE: `local://${join(dir, 'data')}/store` };
  const user = { uid: NOBODY, gid: NOBODY, env };
  let mnt: string;
  let path: string;
  let deviceMode = 0;

  afterAll(() => chmodSync('/dev/fuse', deviceMode));

  beforeAll(async () => {
    chmodSync(dir, 0o755);
    // As it is almost everywhere; fusermount3 opens it for the user.
    deviceMode = statSync('/dev/fuse').mode & 0o7777;
    chmodSync('/dev/fuse', 0o666);
    own('data');
    mnt = own('mnt');
    const source = own('tree');
    writeFileSync(join(source, 'file'), 'mine');
    const imported = await tvixStore(['import', source], user);
    expect(imported.status).toBe(0);
    path = join(mnt, imported.stdout.trim().split('/').pop()!);
  });

  const refusal = async (args: string[], options: object = user) => {
    const { status, stderr } = await tvixStore(['mount', ...args, mnt], options);
    expect(status).toBe(1);
    expect(isMounted(mnt)).toBe(false);
    return stderr;
  };

  test('mounts by fusermount3, serves, unmounts at the end', async () => {
    const mounted = await mount(['--readers', '2'], mnt, user);
    const read = await run('cat', [join(path, 'file')], { uid: NOBODY, gid: NOBODY });
    expect(read).toMatchObject({ status: 0, stdout: 'mine' });
    await expectCleanEnd(mounted, 'SIGTERM');
  });

  test('cleans up after a killed mount', async () => {
    const killed = await mount([], mnt, user);
    await killed.stop('SIGKILL');
    const mounted = await mount([], mnt, user);
    expect((await run('cat', [join(path, 'file')], { uid: NOBODY, gid: NOBODY })).stdout).toBe('mine');
    await expectCleanEnd(mounted, 'SIGTERM');
  });

  test('unmounts although PATH leads into the mount, which would first have to be fetched', async () => {
    const daemon = await startDaemon(store);
    // Not a store path that is known: whoever looks for a program in it has it looked up far away.
    const folder = join(mnt, `${'0'.repeat(32)}-programs/bin`);
    const args = ['--store', daemon.url, '--cache', join(own('cache'), 'cache')];
    const mounted = await mount(args, mnt, { ...user, env: { ...env, PATH: `${folder}:${env.PATH}` } });
    const read = await run('cat', [join(mnt, name, 'file')], { uid: NOBODY, gid: NOBODY });
    expect(read.stdout).toBe('contents');
    daemon.child.kill('SIGSTOP');
    try {
      await expectCleanEnd(mounted, 'SIGTERM');
    } finally {
      daemon.child.kill('SIGCONT');
    }
  });

  test('mounts although PATH leads into another mount, whose process is stopped', async () => {
    const other = await mount(['--store', store, '-o', 'allow_other']);
    const folder = join(other.dir, `${'0'.repeat(32)}-programs/bin`);
    process.kill(other.pid, 'SIGSTOP');
    try {
      const mounted = await mount([], mnt, { ...user, env: { ...env, PATH: `${folder}:${env.PATH}` } });
      expect((await run('cat', [join(path, 'file')], { uid: NOBODY, gid: NOBODY })).stdout).toBe('mine');
      const { status } = await mounted.stop();
      expect([status, isMounted(mnt)]).toEqual([0, false]);
    } finally {
      process.kill(other.pid, 'SIGCONT');
    }
    expect((await other.stop()).status).toBe(0);
  });

  test('unmounts although the signal that ends it went to all of its processes', async () => {
    const mounted = await mount([], mnt, user);
    const { stdout } = await run('pgrep', ['-P', String(mounted.pid)]);
    const others = stdout.trim().split('\n').map(Number);
    expect(others.length).toBe(1);
    for (const pid of others) process.kill(pid, 'SIGTERM');
    await expectCleanEnd(mounted, 'SIGTERM');
    await expect.poll(async () => (await run('pgrep', ['-f', mnt])).stdout, { timeout: 20_000 }).toBe('');
  });

  test('leaves nothing behind when somebody else unmounts it', async () => {
    const mounted = await mount([], mnt, user);
    const ended = once(mounted.child, 'exit');
    expect((await run('fusermount3', ['-u', mnt], { uid: NOBODY, gid: NOBODY })).status).toBe(0);
    expect(await ended).toEqual([0, null]);
    await expect.poll(async () => (await run('pgrep', ['-f', mnt])).stdout, { timeout: 20_000 }).toBe('');
  });

  test('unmounts although a folder above it has been renamed', async () => {
    const folder = own('folder');
    const at = own('folder/it is\nhere\\n');
    const mounted = await mount([], at, user);
    renameSync(folder, `${folder} 1`);
    expect((await mounted.stop()).status).toBe(0);
    expect(readFileSync('/proc/self/mounts', 'utf8')).not.toContain(dir);
  });

  test('says what to install where fusermount3 is missing', async () => {
    const stderr = await refusal([], { ...user, env: { ...env, PATH: '/nowhere' } });
    expect(stderr).toContain('install the package "fuse3"');
  });

  test('lets others in only where fuse.conf allows that', async () => {
    const allowed = /^\s*user_allow_other/m.test(readFileSync('/etc/fuse.conf', 'utf8'));
    if (!allowed) expect(await refusal(['--allow-other'])).toContain('user_allow_other');
    else {
      const mounted = await mount(['--allow-other'], mnt, user);
      expect((await run('cat', [join(path, 'file')])).stdout).toBe('mine');
      await mounted.stop();
    }
  });

  test('cannot mount where they may not write', async () => {
    const theirs = join(dir, 'theirs');
    mkdirSync(theirs);
    const { status, stderr } = await tvixStore(['mount', theirs], user);
    expect([status, stderr]).toEqual([1, expect.stringContaining(theirs)]);
  });
});

test.runIf(isRoot)('nodes that the kernel forgets are given back', async () => {
  const tree = join(tempDir(), 'tree');
  const many = Array.from({ length: 1000 }, (_, i) => [`file-${i}`, file(`contents ${i}`)] as const);
  const halves = [many.slice(0, 500), many.slice(500)].map((part, i) => [
    `d${i}`,
    directory(Object.fromEntries(part)),
  ]);
  writeTree(tree, directory(Object.fromEntries(halves)));
  const mounted = await GatedMount.start({ trees: [tree], readers: 2 });
  const nodes = async () => (await mounted.statistics()).nodes;
  const list = () => run('ls', ['-lR', mounted.roots[0]!]);
  const before = (await list()).stdout;
  expect(await nodes()).toBeGreaterThanOrEqual(1003);
  await expect
    .poll(
      async () => {
        writeFileSync('/proc/sys/vm/drop_caches', '2');
        return nodes();
      },
      { timeout: 20_000 },
    )
    .toBeLessThan(100);
  // They come back as they were.
  expect((await list()).stdout).toBe(before);
  expect((await mounted.stop()).status).toBe(0);
});
