import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SecretKey } from '../../src/nix/key.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { signaturesBy } from '../../src/store/trust/verify.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { DRIVERS, mount } from '../helpers/mount.ts';
import { localStore } from '../helpers/services.ts';
import { putStorePath } from '../helpers/store-paths.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file } from '../helpers/trees.ts';

const KEY = SecretKey.generate('trusted-1');
const OTHER = SecretKey.generate('other-1');
const TRUST = ['--trusted-public-keys', `${KEY.publicKey}`];
const treeOf = (name: string) => directory({ file: file(name), large: file(name.repeat(40_000)) });

describe('a mount with trusted keys', () => {
  const dir = tempDir();
  let daemon: TestDaemon;
  const paths: Record<string, PathInfo> = {};
  const newCache = () => join(tempDir(), 'cache');
  const read = (at: string, name: string) => run('cat', [join(at, String(paths[name]!.storePath), 'file')]);

  beforeAll(async () => {
    const store = localStore(`${dir}/far`);
    const put = async (name: string, signatures: (info: PathInfo) => PathInfo['signatures']) => {
      const info = await putStorePath(store, name, treeOf(name));
      paths[name] = await store.pathInfos.put({ ...info, signatures: signatures(info) });
    };
    await put('castore', (info) => signaturesBy(KEY, info));
    await put('nix', (info) => [KEY.sign(info)]);
    await put('other', (info) => signaturesBy(OTHER, info));
    await put('unsigned', () => []);
    // Another root under what Nix has signed.
    await put('forged', (info) => [KEY.sign(info)]);
    await store.pathInfos.replace!({ ...paths.forged!, node: paths.other!.node });
    await store.close();
    daemon = await startDaemon(`local://${dir}/far`, `${dir}/socket`);
  });
  afterAll(() => daemon?.stop());

  const at = (name: string) => paths[name]!.storePath.absolute();
  const flags = () => ['--store', daemon.url, '--cache', newCache(), ...TRUST];

  test.each(DRIVERS)('shows what they have signed, and nothing else (%s)', async (driver) => {
    const mounted = await mount([
      ...['--store', daemon.url, '--cache', newCache(), '--list-root', '--driver', driver],
      ...TRUST,
    ]);
    expect(await read(mounted.dir, 'castore')).toMatchObject({ status: 0, stdout: 'castore' });
    // A listing waits for no contents.
    const listed = async () => (await run('ls', ['-U', mounted.dir])).stdout.trim().split('\n').sort();
    const names = (...wanted: string[]) => wanted.map((name) => String(paths[name]!.storePath)).sort();
    expect(await listed()).toEqual(names('castore'));
    expect(await read(mounted.dir, 'nix')).toMatchObject({ status: 0, stdout: 'nix' });
    // The kernel is told of it in a moment.
    await expect.poll(listed, { timeout: 15_000 }).toEqual(names('castore', 'nix'));
    for (const name of ['other', 'unsigned', 'forged']) {
      for (let time = 0; time < 3; time++) {
        const { status, stderr } = await read(mounted.dir, name);
        expect({ status, stderr }).toEqual({
          status: 1,
          stderr: expect.stringContaining('Input/output error'),
        });
      }
      expect(mounted.log().split(`${paths[name]!.storePath.absolute()} of `)).toHaveLength(2);
    }
    expect(mounted.log()).toContain(
      '(trusted: trusted-1; signatures: "other-1", "other-1.castore")'.replaceAll('"', '\\"'),
    );
    expect(mounted.log()).toContain('is not what was signed: its NAR has');
    expect((await mounted.stop()).status).toBe(0);
  });

  test('reads of a castore-signed path no more than is asked for, and of another all, once', async () => {
    const cache = newCache();
    const first = await mount(['--store', daemon.url, '--cache', cache, '--json', ...TRUST]);
    await read(first.dir, 'nix');
    await first.stop();
    // What has been checked is known, and here, when the daemon has gone.
    const offline = await mount(['--store', daemon.url, '--cache', cache, '--offline', ...TRUST]);
    expect(await read(offline.dir, 'nix')).toMatchObject({ status: 0, stdout: 'nix' });
    const large = join(offline.dir, String(paths.nix!.storePath), 'large');
    expect((await run('wc', ['-c', large])).stdout).toMatch(/^120000 /);
    expect((await read(offline.dir, 'castore')).stderr).toContain('No such file');
    await offline.stop();
  });

  test('does not believe what a cache has kept without them', async () => {
    const cache = newCache();
    const careless = await mount(['--store', daemon.url, '--cache', cache]);
    for (const name of Object.keys(paths)) expect((await read(careless.dir, name)).status).toBe(0);
    await careless.stop();
    const offline = await mount(['--store', daemon.url, '--cache', cache, '--offline', ...TRUST]);
    expect(await read(offline.dir, 'castore')).toMatchObject({ status: 0, stdout: 'castore' });
    for (const name of ['nix', 'other', 'unsigned', 'forged'])
      expect((await read(offline.dir, name)).stderr).toContain('Input/output error');
    await offline.stop();
    const careful = await mount(['--store', daemon.url, '--cache', cache, ...TRUST]);
    expect(await read(careful.dir, 'nix')).toMatchObject({ status: 0, stdout: 'nix' });
    for (const name of ['other', 'unsigned', 'forged'])
      expect((await read(careful.dir, name)).stderr).toContain('Input/output error');
    await careful.stop();
  });

  test('is what commands are, too', async () => {
    expect((await tvixStore(['cat', ...flags(), `${at('castore')}/file`])).stdout).toBe('castore');
    expect((await tvixStore(['cat', ...flags(), `${at('nix')}/file`])).stdout).toBe('nix');
    for (const command of [['cat'], ['ls'], ['nar', 'ls'], ['path-info']]) {
      const place = command[0] === 'cat' ? `${at('forged')}/file` : at('forged');
      const { status, stderr } = await tvixStore([...command, ...flags(), place]);
      expect(status).toBe(1);
      expect(stderr).toContain(`${at('forged')} of grpc+unix:`);
    }
  });

  test('is what copies and real files are made by', async () => {
    const to = `local://${tempDir()}/copy`;
    const copied = await tvixStore([
      'copy',
      ...flags().slice(2),
      '--from',
      daemon.url,
      '--to',
      to,
      at('nix'),
      at('castore'),
    ]);
    expect(copied.stdout.trim().split('\n').sort()).toEqual([at('nix'), at('castore')].sort());
    const refused = await tvixStore([
      'copy',
      ...flags().slice(2),
      '--from',
      daemon.url,
      '--to',
      to,
      at('forged'),
    ]);
    expect(refused.stderr).toContain('is not what was signed');
    const realised = tempDir();
    expect((await tvixStore(['realise', ...flags(), at('castore'), realised])).status).toBe(0);
    expect(readFileSync(join(realised, String(paths.castore!.storePath), 'file'), 'utf8')).toBe('castore');
    // A signature over the root needs no note of anything.
    const cache = newCache();
    await tvixStore(['cat', '--store', daemon.url, '--cache', cache, ...TRUST, `${at('castore')}/file`]);
    expect(existsSync(cache) && statSync(cache).isDirectory()).toBe(false);
  });

  test('is what a server is, whose cache is as any other', async () => {
    const kept = newCache();
    const relay = await startDaemon(daemon.url, `${dir}/relay`, ['--cache', kept, ...TRUST]);
    expect((await tvixStore(['cat', '--store', relay.url, `${at('nix')}/file`])).stdout).toBe('nix');
    const denied = await tvixStore(['cat', '--store', relay.url, `${at('forged')}/file`]);
    expect(denied.stderr).toContain('is not what was signed');
    await relay.stop();
    expect(await tvixStore(['fsck', '--store', `local://${kept}`])).toMatchObject({ status: 0 });
    expect((await tvixStore(['compact', '--store', `local://${kept}`])).status).toBe(0);
  });

  test('may have them from the environment, which means nothing for a store that is here', async () => {
    const env = { ...process.env, TVIX_STORE_TRUSTED_PUBLIC_KEYS: `${KEY.publicKey}\n ${OTHER.publicKey}` };
    const args = ['--store', daemon.url, '--cache', newCache()];
    expect((await tvixStore(['cat', ...args, `${at('other')}/file`], { env })).stdout).toBe('other');
    expect((await tvixStore(['cat', ...args, `${at('unsigned')}/file`], { env })).status).toBe(1);
    const local = await tvixStore(['cat', '--store', `local://${dir}/far`, `${at('unsigned')}/file`], {
      env,
    });
    expect(local.stdout).toBe('unsigned');
  });
});
