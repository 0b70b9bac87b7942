import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { LocalStore } from '../../src/castore/local/store.ts';
import { tvixStore } from '../helpers/cli.ts';
import { inProcess } from '../helpers/in-process.ts';
import { localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const dir = tempDir();
const store = `local://${dir}/store`;
const HASH = '00bgd045z0d4icpbc2yyz4gx48ak44la';

beforeAll(() => localStore(join(dir, 'store')).close());

test('an address on the command line counts more than a composition in the environment', async () => {
  process.env.TVIX_STORE_COMPOSITION = '/none/composition';
  try {
    expect(await inProcess(['ls', '--store', store])).toEqual({ status: 0, stdout: '', stderr: '' });
    expect((await inProcess(['ls'])).stderr).toContain('/none/composition');
  } finally {
    delete process.env.TVIX_STORE_COMPOSITION;
  }
});

test('a store on the command line counts more than the address of a service in the environment', async () => {
  process.env.BLOB_SERVICE_ADDR = 'nonsense';
  try {
    expect(await inProcess(['ls', '--store', store])).toEqual({ status: 0, stdout: '', stderr: '' });
    expect((await inProcess(['ls'])).stderr).toContain('nonsense');
  } finally {
    delete process.env.BLOB_SERVICE_ADDR;
  }
});

describe('the address of a store', () => {
  test.each([
    ['nonsense', 'not an address'],
    ['', 'not an address'],
    ['/srv/store', 'did you mean local:///srv/store?'],
    ['./store', `did you mean ${pathToFileURL('store').href.replace('file:', 'local:')}?`],
    ['ftp://somewhere', 'known are local://'],
    [
      'http://host:8000',
      'did you mean grpc+http://host:8000 for a daemon, or nix+http://host:8000 for a bin',
    ],
    ['https://host/cache', 'or nix+https://host/cache for a binary cache?'],
    ['https://user:secret@host', 'did you mean grpc+https://…@host'],
    ['grpc://host:8000', 'did you mean grpc+http://host:8000, or grpc+https://host:8000?'],
    ['localhost:8000', 'did you mean grpc+http://localhost:8000?'],
    ['unix:/run/sock', 'did you mean grpc+unix:///run/sock?'],
    ['unix:///run/sock', 'did you mean grpc+unix:///run/sock?'],
    ['grpc+unix://run/sock', 'grpc+unix:///run/sock'],
    ['s3://bucket/prefix', 'did you mean objectstore+s3://bucket/prefix?'],
    ['file:///srv/x', 'did you mean local:///srv/x for a store, or nix+file:///srv/x for a binary cache'],
    ['ssh://host', 'run a daemon on that machine'],
    ['local://', 'name a directory'],
    ['local:///', 'name a directory'],
    ['local://tmp/x', 'did you mean local:///tmp/x?'],
    ['objectstore+file://tmp/x', 'did you mean objectstore+file:///tmp/x?'],
    ['nix+file://tmp/x', 'nix+file:///tmp/x'],
    ['local:///dir?depth=3', 'unknown parameter "depth"'],
    ['memory://host', 'a host has no meaning here'],
    ['memory:///path', 'a path has no meaning here'],
    ['memory://?size=3', 'unknown parameter "size"'],
    ['nix+https://host?keys=x', 'unknown parameter "keys"; allowed are trusted-public-keys, trusted'],
  ])('cannot be %s', async (address, why) => {
    const { status, stderr } = await inProcess(['ls', '--store', address]);
    expect(status).toBe(2);
    expect(stderr).toMatch(/^error: /);
    expect(stderr).toContain(why);
    expect(stderr).not.toContain('secret');
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
    const { stderr } = await tvixStore(['ls'], {
      env: { PATH: process.env.PATH, XDG_DATA_HOME: join(home, 'data') },
      ...(root ? { uid: 65_534, gid: 65_534 } : {}),
    });
    expect(stderr).toContain(`${home}/data/tvix-store`);
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
  test.each([
    ['cat', `${HASH}-name/file`],
    ['cat', `/nix/store/${HASH}-name/file`],
    ...[
      'ls',
      'nar dump',
      'nar ls',
      'path-info',
      'nix-db',
      'verify',
      'realise',
      'copy --to memory:',
      'root add x',
    ].flatMap((command) => [`/nix/store/${HASH}-name`, `${HASH}-name`, HASH].map((path) => [command, path])),
  ])('%s %s ends with 1 and names the path', async (command, argument) => {
    const args = [...command.split(' '), '--store', store, argument];
    const { status, stdout, stderr } = await inProcess(command === 'realise' ? [...args, dir] : args);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^error: \/nix\/store\/00bgd045\S* is not in the store\n$/);
  });
});
