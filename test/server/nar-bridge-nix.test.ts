import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import { tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startNarBridge } from '../helpers/daemon.ts';
import { describeNix, NIX_VERSION, NixUser } from '../helpers/nix.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { checkLocalStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { generateTree, writeTree } from '../helpers/trees.ts';

const BUILD = `
let dep = derivation { name = "dep"; system = "x86_64-linux"; builder = "/bin/sh";
  args = [ "-c" "/bin/mkdir $out; echo hello > $out/file" ]; };
in derivation { name = "top"; system = "x86_64-linux"; builder = "/bin/sh";
  args = [ "-c" "/bin/mkdir $out; echo \${dep} > $out/reference; echo $out > $out/self; /bin/ln -s $out $out/link" ]; }
`;

describeNix('a binary cache, seen by the real Nix', () => {
  const nix = new NixUser();
  const dir = tempDir();
  let bridge: TestDaemon;
  let url: string;
  /** A path with a reference, and to itself. */
  let top: string;
  const at = (store: string) => join(dir, store);
  const copy = (...args: string[]) => nix.run('nix', ['copy', ...args]);

  beforeAll(async () => {
    bridge = await startNarBridge(`local://${at('store')}`);
    url = `http://${bridge.at}`;
    writeFileSync(at('build.nix'), BUILD);
    const built = await nix.run('nix-build', ['--no-out-link', '--store', at('own'), at('build.nix')]);
    top = built.toString().trim();
  });

  /** What Nix has in a store of its own. */
  const dump = (store: string, path: string) =>
    nix.run('nix-store', ['--dump', join(at(store), path.slice(1))]);

  test.each(['xz', 'zstd', 'gzip', 'bzip2', 'br', 'lz4', 'none'])(
    'takes what it uploads compressed by %s, and gives it back',
    async (how) => {
      const other = await startNarBridge(`local://${at(`store-${how}`)}`);
      const cache = `http://${other.at}`;
      await copy('--store', at('own'), '--to', `${cache}?compression=${how}`, top);
      // The one who uploaded remembers the URL that it chose; others are told one of ours.
      for (const user of [nix, new NixUser()]) {
        const to = at(`${how}-${user === nix ? 'same' : 'other'}`);
        await user.run('nix', ['copy', '--from', cache, '--to', to, '--no-check-sigs', top]);
        const got = await user.run('nix-store', ['--dump', join(to, top)]);
        expect(got.equals(await dump('own', top))).toBe(true);
        await user.run('nix-store', ['--store', to, '--verify', '--check-contents']);
      }
      await other.stop();
      expect(await checkLocalStore(at(`store-${how}`))).toHaveLength(2);
    },
  );

  test.skipIf(NIX_VERSION < 2.33)('takes narinfos and listings that come compressed', async () => {
    const other = await startNarBridge(`local://${at('packed')}`);
    const cache = `http://${other.at}`;
    const how = 'narinfo-compression=zstd&ls-compression=br&log-compression=gzip&write-nar-listing=1';
    await copy('--store', at('own'), '--to', `${cache}?${how}`, top);
    await copy('--from', cache, '--to', at('from-packed'), '--no-check-sigs', top);
    await other.stop();
  });

  test.each(['lzip', 'lzma', 'compress'])('says what to do instead of compressing by %s', async (how) => {
    const user = new NixUser();
    const path = await addPath(`not by ${how}`, how);
    const { status, stderr } = await user.try('nix', [
      'copy',
      '--store',
      at('own'),
      '--to',
      `${url}?compression=${how}`,
      path,
    ]);
    expect(status).not.toBe(0);
    expect(stderr).toContain('HTTP error 415');
    expect(stderr).toContain('?compression=none');
  });

  async function addPath(contents: string, name: string): Promise<string> {
    writeFileSync(at(`to-add-${name}`), contents);
    const added = await nix.run('nix', ['store', 'add-path', '--store', at('own'), at(`to-add-${name}`)]);
    return added.toString().trim();
  }

  test('serves as a substituter, whose signatures count', async () => {
    const secret = await nix.run('nix', ['key', 'generate-secret', '--key-name', 'test-1']);
    writeFileSync(at('secret'), secret);
    const key = await nix.run('nix', ['key', 'convert-secret-to-public'], { input: secret });
    await copy('--store', at('own'), '--to', `${url}?secret-key=${at('secret')}`, top);
    const realise = (store: string, ...options: string[]) =>
      new NixUser().try('nix-store', [
        '--store',
        at(store),
        '--option',
        'substituters',
        url,
        ...options,
        '-r',
        top,
      ]);
    const refused = await realise('distrusting');
    expect(refused.status).not.toBe(0);
    expect(refused.stderr).toContain('not signed by any of the keys');
    const taken = await realise('trusting', '--option', 'trusted-public-keys', key.toString().trim());
    expect(taken.status, taken.stderr).toBe(0);
    expect((await dump('trusting', top)).equals(await dump('own', top))).toBe(true);
  });

  test('gives a content-addressed path to who trusts no key', async () => {
    const path = await addPath('addressed by its contents', 'addressed');
    await copy('--store', at('own'), '--to', `${url}?compression=none`, path);
    await new NixUser().run('nix-store', [
      '--store',
      at('addressed'),
      '--option',
      'substituters',
      url,
      '-r',
      path,
    ]);
    expect((await dump('addressed', path)).equals(await dump('own', path))).toBe(true);
  });

  test('lets it go on where a download broke off', async () => {
    const path = await addPath(randomBytes(12 << 20, 'broken').toString('base64'), 'broken');
    await copy('--store', at('own'), '--to', `${url}?compression=none`, path);
    const proxy = await TcpProxy.start(bridge.port);
    proxy.rate = 16 << 20;
    const through = proxy.url.replace('grpc+', '');
    const taken = new NixUser().try('nix', ['copy', '--from', through, '--to', at('resumed'), path]);
    while (proxy.down < 4 << 20) await delay(5);
    proxy.reset();
    const { status, stderr } = await taken;
    expect(status, stderr).toBe(0);
    expect(stderr).toMatch(/retrying from offset [1-9]/);
    expect((await dump('resumed', path)).equals(await dump('own', path))).toBe(true);
  });

  test('lets it look into paths', async () => {
    const user = new NixUser();
    await copy('--store', at('own'), '--to', url, top);
    const listed = await user.run('nix', ['store', 'ls', '--store', url, '-lR', top]);
    expect(listed.toString()).toMatch(/^-r--r--r-- +\d+ \.\/reference$/m);
    const contents = await user.run('nix', ['store', 'cat', '--store', url, `${top}/self`]);
    expect(contents.toString()).toBe(`${top}\n`);
  });

  test('takes its listings, and makes the same', async () => {
    const path = await addPath('listed', 'listed');
    await copy('--store', at('own'), '--to', `${url}?write-nar-listing=true`, path, top);
    writeFileSync(at('top.nar'), await dump('own', top));
    const listing = await nix.run('nix', ['nar', 'ls', '--json', '-R', at('top.nar'), '/']);
    const ours = await fetch(`${url}/${top.slice('/nix/store/'.length).slice(0, 32)}.ls`);
    expect(ours.headers.get('content-type')).toBe('application/json');
    expect(await ours.json()).toEqual({ version: 1, root: JSON.parse(listing.toString()) });
  });

  test('keeps uploads for who has the token, which it takes from netrc', async () => {
    const made = await tvixStore(['token', 'add', '--file', at('tokens'), 'nix', '--rights', 'read,write']);
    await tvixStore(['token', 'anonymous', '--file', at('tokens'), 'nothing']);
    const guarded = await startNarBridge(`local://${at('guarded')}`, undefined, ['--tokens', at('tokens')]);
    writeFileSync(at('netrc'), `machine 127.0.0.1 login anyone password ${made.stdout.trim()}\n`);
    const upload = (...options: string[]) =>
      new NixUser().try('nix', [
        'copy',
        ...options,
        '--store',
        at('own'),
        '--to',
        `http://${guarded.at}`,
        top,
      ]);
    const refused = await upload();
    expect(refused.status).not.toBe(0);
    const taken = await upload('--option', 'netrc-file', at('netrc'));
    expect(taken.status, taken.stderr).toBe(0);
    await guarded.stop();
    expect(await checkLocalStore(at('guarded'))).toHaveLength(2);
  });

  test('gives what was imported here', async () => {
    const other = await startNarBridge(`local://${at('imported')}`);
    const tree = at('tree');
    writeTree(tree, generateTree(300, 5));
    const { stdout } = await tvixStore(['import', '--store', `local://${at('imported')}`, tree]);
    await nix.run('nix', ['copy', '--from', `http://${other.at}`, '--to', at('fetched'), stdout.trim()]);
    const got = await dump('fetched', stdout.trim());
    expect(got.equals(await nix.run('nix-store', ['--dump', tree]))).toBe(true);
  });

  test('tells of a path of another cache without fetching it', async () => {
    await copy('--store', at('own'), '--to', url, top);
    const store = `nix+${url}?trusted=1`;
    const second = await startNarBridge(store, undefined, ['--cache', at('cache')]);
    const realise = (...options: string[]) =>
      new NixUser().run('nix-store', [
        ...['--store', at('through'), '--option', 'substituters', `http://${second.at}`],
        ...['--option', 'require-sigs', 'false', ...options, '-r', top],
      ]);
    const sent = async () => {
      const metrics = await (await fetch(`${url}/metrics`)).text();
      return /route="(?:castore-)?nar",method="GET"/g[Symbol.match](metrics)?.length ?? 0;
    };
    const before = await sent();
    await realise('--dry-run');
    expect(await sent()).toBe(before);
    await realise();
    expect((await dump('through', top)).equals(await dump('own', top))).toBe(true);
  });
});
