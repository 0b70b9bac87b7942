import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { LocalStore } from '../../src/castore/local/store.ts';
import { tvixStore } from '../helpers/cli.ts';
import { localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const COMMANDS = [
  'import',
  'mount',
  'virtiofs',
  'nar-bridge',
  'ls',
  'cat',
  'path-info',
  'nix-db',
  'key',
  'sign',
  'verify',
  'composition',
  'realise',
  'copy',
  ...['root', 'gc', 'fsck', 'stats'],
];
const HASH = '00bgd045z0d4icpbc2yyz4gx48ak44la';

describe('help', () => {
  test.each([
    ...COMMANDS,
    'key generate',
    'key public',
    'composition check',
    'composition show',
    'root add',
    'root remove',
  ])('of %s has an example, and is no failure', async (command) => {
    const { status, stdout, stderr } = await tvixStore([...command.split(' '), '--help']);
    expect(status).toBe(0);
    expect(stdout).toMatch(new RegExp(`Example:\\n {2}tvix-store ${command}`));
    expect(stderr).toBe('');
  });

  test('names every command', async () => {
    const { status, stdout } = await tvixStore(['--help']);
    expect(status).toBe(0);
    for (const command of COMMANDS) expect(stdout).toMatch(new RegExp(`^ {2}${command}[ |]`, 'm'));
  });

  test('of the version is a version', async () => {
    expect(await tvixStore(['--version'])).toEqual({ status: 0, stdout: '0.1.0\n', stderr: '' });
  });
});

describe('wrong usage', () => {
  test.each([
    [[]],
    [['frobnicate']],
    [['import']],
    [['import', '--frobnicate', '.']],
    [['import', '--name']],
    [['import', '--name', 'one', 'a', 'b']],
    [['cat']],
    [['cat', 'a', 'b']],
    [['mount']],
    [['nix-db']],
    [['mount', '--readers', '0', '/mnt']],
    [['mount', '--cache-size', 'large', '/mnt']],
    [['gc', '--older-than', 'yesterday']],
    [['gc', '--store', 'memory:']],
    [['stats', '--store', 'memory:']],
    [['fsck', '--store', 'memory:']],
    [['root']],
    [['root', 'add', 'name']],
    [['mount', '--readers', '1.5', '/mnt']],
    [['virtiofs']],
    [['virtiofs', '--socket-mode', '9', '/run/socket']],
    [['virtiofs', `/${'long'.repeat(40)}`]],
    [['ls', 'a', 'b']],
    [['realise', 'a']],
    [['copy']],
    [['copy', 'a']],
    [['copy', '--to', 'nix+file://']],
    [['key']],
    [['key', 'frobnicate']],
    [['key', 'generate']],
    [['key', 'public', 'a']],
    [['--log-level', 'loud', 'ls']],
  ])('%j ends with 2 and says why', async (args) => {
    const { status, stdout, stderr } = await tvixStore(args);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).not.toBe('');
    expect(stderr).not.toContain('    at ');
  });
});

describe('the address of a store', () => {
  test.each([
    ['nonsense', 'not an address'],
    ['ftp://somewhere', 'known are local://'],
    ['local://', 'name a directory'],
    ['local:///', 'name a directory'],
    ['local://host/dir', 'a host has no meaning here'],
    ['local:///dir?depth=3', 'unknown parameter "depth"'],
    ['memory://host', 'a host has no meaning here'],
    ['memory:///path', 'a path has no meaning here'],
    ['memory://?size=3', 'unknown parameter "size"'],
    ['nix+https://host?keys=x', 'unknown parameter "keys"; allowed are trusted-public-keys, trusted'],
  ])('cannot be %s', async (address, why) => {
    const { status, stderr } = await tvixStore(['ls', '--store', address]);
    expect(status).toBe(2);
    expect(stderr).toMatch(/^error: /);
    expect(stderr).toContain(why);
  });

  test.each(['local', 'lmdb'])('can be %s:///dir', async (scheme) => {
    const dir = join(tempDir(), 'a store with spaces');
    const store = `${scheme}://${encodeURI(dir)}`;
    const missing = await tvixStore(['ls', '--store', store]);
    expect([missing.status, missing.stderr]).toEqual([1, expect.stringContaining('there is none')]);
    await localStore(dir).close();
    expect(await tvixStore(['ls', '--store', store])).toEqual({ status: 0, stdout: '', stderr: '' });
  });

  test.each(['memory:', 'memory://'])('can be %s', async (store) => {
    expect(await tvixStore(['ls', '--store', store])).toEqual({ status: 0, stdout: '', stderr: '' });
  });

  test('comes from the environment, and each service can have its own', async () => {
    const dir = tempDir();
    const env = {
      ...process.env,
      TVIX_STORE: `local://${dir}/a`,
      PATH_INFO_SERVICE_ADDR: `local://${dir}/b`,
    };
    writeFileSync(join(dir, 'file'), 'contents');
    const { stdout } = await tvixStore(['import', join(dir, 'file')], { env });
    const ls = async (store: string) =>
      (await tvixStore(['ls', '--store', `local://${dir}/${store}`])).stdout;
    expect(await ls('a')).toBe('');
    expect(`/nix/store/${await ls('b')}`).toBe(stdout);
    const cat = await tvixStore(['cat', stdout.trim()], { env });
    expect(cat.stdout).toBe('contents');
  });

  test('by default is below $XDG_DATA_HOME for an ordinary user', async () => {
    const home = tempDir();
    const root = process.getuid?.() === 0;
    mkdirSync(join(home, 'data'), { mode: 0o777 });
    const help = await tvixStore(['ls', '--help'], {
      env: { PATH: process.env.PATH, XDG_DATA_HOME: '/some/where' },
      ...(root ? { uid: 65_534, gid: 65_534 } : {}),
    });
    expect(help.stdout.replace(/\s+/g, '')).toContain('local:///some/where/tvix-store');
  });
});

describe('a store that cannot be used', () => {
  test('of another format is refused with its number', async () => {
    const dir = tempDir();
    const store = LocalStore.open(dir, 'store');
    await store.env.table('meta').put(Buffer.from('format'), Buffer.from('2'));
    await store.close();
    const { status, stderr } = await tvixStore(['ls', '--store', `local://${dir}`]);
    expect(status).toBe(1);
    expect(stderr).toContain(`the store in ${dir} has format 2, this program knows 1`);
  });

  test('that is a cache is not imported into', async () => {
    const dir = tempDir();
    await LocalStore.open(dir, 'cache').close();
    writeFileSync(join(dir, 'file'), 'contents');
    const { status, stdout, stderr } = await tvixStore([
      'import',
      '--store',
      `local://${dir}`,
      join(dir, 'file'),
    ]);
    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toContain('is a cache');
  });

  test('that is no database is refused', async () => {
    const dir = tempDir();
    writeFileSync(join(dir, 'store.lmdb'), Buffer.alloc(100_000, 'not a database '));
    const { status, stderr } = await tvixStore(['ls', '--store', `local://${dir}`]);
    expect(status).toBe(1);
    expect(stderr).toContain(`cannot open the store in ${dir}`);
  });

  test('in a place that cannot be written is refused', async () => {
    const dir = tempDir();
    writeFileSync(join(dir, 'file'), '');
    const { status, stderr } = await tvixStore(['ls', '--store', `local://${dir}/file/store`]);
    expect(status).toBe(1);
    expect(stderr).toContain(`cannot open the store in ${dir}/file/store`);
  });
});

describe('what is not in the store', () => {
  const dir = tempDir();
  const store = `local://${dir}`;
  beforeAll(() => localStore(dir).close());

  test.each([
    ['cat', `${HASH}-name/file`],
    ['cat', `/nix/store/${HASH}-name/file`],
    ['ls', `${HASH}-name`],
    ['ls', HASH],
    ['path-info', `/nix/store/${HASH}-name`],
    ['path-info', HASH],
  ])('%s %s ends with 1 and names the path', async (command, argument) => {
    const { status, stdout, stderr } = await tvixStore([command, '--store', store, argument]);
    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^error: \/nix\/store\/00bgd045\S* is not in the store\n$/);
  });

  test.each([
    ['cat', 'name'],
    ['ls', '/nix/store'],
    ['ls', ''],
    ['path-info', '/etc/passwd'],
    ['path-info', 'e'.repeat(32)],
  ])('%s %j: that is no store path', async (command, argument) => {
    const { status, stderr } = await tvixStore([command, '--store', store, argument]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^error: not a store path/);
  });
});
