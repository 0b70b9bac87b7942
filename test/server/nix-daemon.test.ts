import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT, tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon, startNarBridge, startNixDaemon } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { describeNix, NIX_VERSION, NixUser } from '../helpers/nix.ts';
import { checkLocalStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

/** Two paths that refer to each other, the one to itself as well. */
const BUILD = `rec {
  make = name: script: derivation {
    inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "PATH=/bin; \${script}" ];
  };
  dep = make "dep" "mkdir $out; echo hello > $out/file; echo same > $out/same";
  top = make "top" "mkdir $out; echo \${dep} > $out/reference; echo $out > $out/self; echo the log";
}`;

const FLOATING = `derivation {
  name = "floating"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo contents > $out" ];
  __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";
}`;

describeNix('a daemon of Nix, seen by the real one', () => {
  const nix = new NixUser('extra-experimental-features = nix-command local-overlay-store\n');
  const dir = tempDir();
  const at = (name: string) => join(dir, name);
  const store = `local://${at('store')}`;
  let daemon: TestDaemon;
  /** With the files of the mount. */
  let url: string;
  let files: string;
  let dep: string;
  let top: string;
  const text = async (command: string, ...args: string[]) => String(await nix.run(command, args)).trim();
  const query = async (...args: string[]) =>
    (await text('nix-store', '--store', url, '--query', ...args)).split('\n');

  beforeAll(async () => {
    await tvixStore(['import', '--store', store, join(ROOT, 'protos')]);
    daemon = await startNixDaemon(store, at('socket'));
    const mounted = await mount(['--store', store, '--list-root']);
    files = mounted.dir;
    url = `unix://${daemon.at}?real=${files}`;
    writeFileSync(at('build.nix'), BUILD);
    const build = (name: string) =>
      text('nix-build', '--no-out-link', '--store', at('own'), at('build.nix'), '-A', name);
    dep = await build('dep');
    top = await build('top');
    await nix.run('nix', ['copy', '--no-check-sigs', '--store', at('own'), '--to', url, top]);
  });

  test('takes what is copied to it', async () => {
    expect(await checkLocalStore(at('store'))).toEqual(expect.arrayContaining([dep, top]));
    const [told] = await nix.pathInfos(['--store', url, top]);
    const [own] = await nix.pathInfos(['--store', at('own'), top]);
    expect(told).toMatchObject({
      narHash: own!.narHash,
      narSize: own!.narSize,
      references: own!.references,
      deriver: own!.deriver,
    });
  });

  test('keeps what outputs are that are addressed by their contents, and logs', async () => {
    writeFileSync(at('floating.nix'), FLOATING);
    const build = ['--no-out-link', at('floating.nix'), '--store'];
    const out = await text('nix-build', ...build, at('own'));
    const drv = await text('nix-instantiate', '--store', at('own'), at('floating.nix'));
    const what = NIX_VERSION >= 2.15 ? `${drv}^*` : drv;
    await nix.run('nix', ['copy', '--no-check-sigs', '--store', at('own'), '--to', url, what]);
    const user = new NixUser(`substituters = ${url}&trusted=true\nmax-jobs = 0\n`);
    expect(String(await user.run('nix-build', [...build, at('fresh')])).trim()).toBe(out);
    const topDrv = await text('nix-instantiate', '--store', at('own'), at('build.nix'), '-A', 'top');
    await nix.run('nix', ['store', 'copy-log', '--store', at('own'), '--to', url, topDrv]);
    const bridge = await startNarBridge(store);
    expect(await text('nix', 'log', '--store', `http://${bridge.at}`, top)).toBe('the log');
    await bridge.stop();
  });

  test('answers all that is asked', async () => {
    expect(await query('-R', top)).toEqual([dep, top]);
    expect(await query('--referrers', dep)).toEqual([top]);
    expect((await query('--references', top)).sort()).toEqual([dep, top].sort());
    expect(await text('nix-store', '--store', url, '--check-validity', top, dep)).toBe('');
    const { status, stderr } = await nix.try('nix-store', [
      '--store',
      url,
      '--check-validity',
      top.replace('-top', '-pot'),
    ]);
    expect(status, stderr).toBe(1);
    expect(await text('nix', 'store', 'ls', '--store', url, top)).toContain('reference');
    expect(await text('nix', 'store', 'cat', '--store', url, `${top}/reference`)).toBe(dep);
    await text('nix', 'store', 'verify', '--no-trust', '-r', '--store', url, top);
    expect((await nix.pathInfos(['--store', url, '--all'])).map(({ path }) => path)).toEqual(
      expect.arrayContaining([dep, top]),
    );
    expect(await text('nix-store', '--store', url, '--realise', top)).toBe(top);
  });

  test('is copied from, whole', async () => {
    await nix.run('nix', ['copy', '--no-check-sigs', '--from', url, '--to', at('other'), top]);
    await nix.run('nix-store', ['--store', at('other'), '--verify', '--check-contents']);
    const user = { ...nix.env, NIX_REMOTE: url };
    const exported = await nix.run('nix-store', ['--export', dep, top], { env: user });
    expect(exported.includes(dep)).toBe(true);
  });

  test('takes what is added, under the path that Nix gives it', async () => {
    writeFileSync(at('a file'), 'contents');
    for (const how of [
      ['add-file', at('a file'), '--name', 'file'],
      ['add-path', at('own/nix/store'), '--name', 'tree'],
    ]) {
      const added = await text('nix', 'store', ...how, '--store', url);
      expect(await text('nix', 'store', ...how, '--store', at('elsewhere'))).toBe(added);
      expect(await text('nix-store', '--store', url, '--check-validity', added)).toBe('');
    }
    await nix.run('nix', ['copy', '--no-check-sigs', '--store', at('own'), '--to', url, '--derivation', top]);
    const [drv] = await query('--deriver', top);
    expect(await query('--outputs', drv!)).toEqual([top]);
    expect(await text('nix-store', '--store', url, '--realise', drv!)).toBe(top);
  });

  test('keeps all signatures', async () => {
    const names = ['one', 'two'];
    for (const name of names) {
      const key = at(`${name}.key`);
      writeFileSync(key, await nix.run('nix', ['key', 'generate-secret', '--key-name', name]));
      await nix.run('nix', ['store', 'sign', '--key-file', key, '--store', url, dep]);
    }
    const [{ signatures = [] } = {}] = await nix.pathInfos(['--store', url, dep]);
    expect(signatures.map((signature) => signature.split(':')[0]).sort()).toEqual(names);
  });

  test('keeps what a link is made to', async () => {
    await nix.run('nix-store', ['--store', url, '--realise', dep, '--add-root', at('dep-link')]);
    const { stdout } = await tvixStore(['root', 'list', '--store', store]);
    expect(stdout).toContain(`${at('dep-link')}\t${dep}\n`);
    expect(await text('nix-store', '--store', url, '--gc', '--print-roots')).toContain(`-> ${dep}`);
  });

  test('builds nothing, collects nothing, and says so', async () => {
    const make = 'derivation { name = "x"; system = "x86_64-linux"; builder = "/bin/sh"; }';
    const built = await nix.try('nix-build', ['--store', url, '--no-out-link', '-E', make]);
    expect(built.status).not.toBe(0);
    expect(built.stderr).toContain('nothing is built here');
    const collected = await nix.try('nix-store', ['--store', url, '--gc']);
    expect(collected.status).not.toBe(0);
    expect(collected.stderr).toContain('tvix-store gc');
  });

  test('lets nobody write that is told not to', async () => {
    const readOnly = await startNixDaemon(store, at('read-only'), ['--read-only']);
    const own = ['--store', at('own')];
    await nix.run('nix', ['path-info', '--store', `unix://${readOnly.at}`, top]);
    writeFileSync(at('another'), 'another');
    const fresh = await text('nix', 'store', 'add-file', at('another'), ...own);
    const { status, stderr } = await nix.try('nix', [
      'copy',
      '--no-check-sigs',
      ...own,
      '--to',
      `unix://${readOnly.at}`,
      fresh,
    ]);
    expect(status).not.toBe(0);
    expect(stderr).toContain('read-only');
    await readOnly.stop();
  });

  // Of Nix 2.22 and later.
  describe.skipIf(NIX_VERSION < 2.22)('below a local-overlay store, of a far store that is mounted', () => {
    const root = at('overlay');
    const upper = at('upper');
    const real = join(root, 'nix/store');
    let overlay: string;

    /** Those of a mount of a far store, into which nothing has been fetched. */
    let far: string;

    beforeAll(async () => {
      for (const folder of [real, upper, at('work')]) mkdirSync(folder, { recursive: true });
      const served = await startDaemon(store, '127.0.0.1:0', ['--read-only']);
      far = (await mount(['--store', served.url, '--cache', at('mount-cache'), '--list-root'])).dir;
      const beside = await startNixDaemon(served.url, at('far-socket'), ['--cache', at('daemon-cache')]);
      const options = `lowerdir=${far},upperdir=${upper},workdir=${at('work')}`;
      expect(spawnSync('mount', ['-t', 'overlay', 'overlay', '-o', options, real]).status).toBe(0);
      const lower = encodeURIComponent(`unix://${beside.at}?real=${far}`);
      overlay = `local-overlay://?root=${root}&lower-store=${lower}&upper-layer=${upper}&check-mount=false`;
    });
    afterAll(() => {
      spawnSync('umount', ['-l', real]);
    });

    test('builds with what lies below, adds, checks, and collects', async () => {
      const inStore = (path: string) => join(real, basename(path));
      writeFileSync(
        at('use.nix'),
        `let dep = builtins.appendContext "${dep}" { "${dep}" = { path = true; }; };
        in derivation { name = "use"; system = "x86_64-linux"; builder = "/bin/sh"; inherit dep;
          args = [ "-c" "PATH=/bin; mkdir $out; cat $dep/file > $out/file; cat $dep/same > $out/same; echo $dep > $out/dep" ]; }`,
      );
      const used = await text('nix-build', '--store', overlay, '--out-link', at('result'), at('use.nix'));
      const built = join(root, 'nix/store', basename(used));
      expect(readFileSync(join(built, 'file'), 'utf8')).toBe('hello\n');
      expect((await text('nix-store', '--store', overlay, '-qR', used)).split('\n')).toEqual([dep, used]);
      const added = await text('nix', 'store', 'add-file', at('use.nix'), '--store', overlay);
      await nix.run('nix-store', ['--store', overlay, '--verify', '--check-contents']);
      await nix.run('nix-store', ['--store', overlay, '--gc']);
      const has = async (path: string) =>
        (await nix.try('nix-store', ['--store', overlay, '--check-validity', path])).status === 0;
      expect(spawnSync('ls', [upper], { encoding: 'utf8' }).stdout).not.toContain(basename(added));
      expect(await has(dep)).toBe(true);
      expect(await has(used)).toBe(true);
      // Equal files stay apart: the one below, and the copy of it above.
      appendFileSync(join(inStore(dep), 'same'), 'changed\n');
      expect(readFileSync(join(far, basename(dep), 'same'), 'utf8')).toBe('same\n');
      expect(readFileSync(join(built, 'same'), 'utf8')).toBe('same\n');
    });
  });
});
