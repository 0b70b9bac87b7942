import { appendFileSync, chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { run, tvixStore } from '../helpers/cli.ts';
import { startDaemon, startNarBridge } from '../helpers/daemon.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { randomBytes } from '../helpers/random.ts';
import { checkLocalStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const BUILD = `let dep = derivation { name = "dep"; system = "x86_64-linux"; builder = "/bin/sh";
  args = [ "-c" "PATH=/bin; mkdir $out; echo hello > $out/file" ]; };
in derivation { name = "top"; system = "x86_64-linux"; builder = "/bin/sh";
  args = [ "-c" "PATH=/bin; mkdir $out; echo \${dep} > $out/reference; ln -s $out $out/link" ]; }`;

describeNix('the store of Nix, read where it is', () => {
  const nix = new NixUser();
  const dir = tempDir();
  const own = join(dir, 'own');
  const address = `nix-store://${own}/nix/store`;
  let top: string;
  let large: string;

  beforeAll(async () => {
    writeFileSync(join(dir, 'build.nix'), BUILD);
    const built = await nix.run('nix-build', ['--no-out-link', '--store', own, join(dir, 'build.nix')]);
    top = String(built).trim();
    mkdirSync(join(dir, 'large'));
    writeFileSync(join(dir, 'large/file'), randomBytes(3_000_000, 'large'));
    writeFileSync(join(dir, 'large/same'), randomBytes(3_000_000, 'large'));
    writeFileSync(join(dir, 'large/empty'), '');
    large = String(await nix.run('nix', ['store', 'add-path', join(dir, 'large'), '--store', own])).trim();
  });

  test('is a binary cache without being imported', async () => {
    const bridge = await startNarBridge(address);
    const url = `http://${bridge.at}`;
    await nix.run('nix', ['copy', '--no-check-sigs', '--from', url, '--to', join(dir, 'other'), top, large]);
    await nix.run('nix-store', ['--store', join(dir, 'other'), '--verify', '--check-contents']);
    const listed = await nix.run('nix', ['store', 'ls', '-R', '--store', url, large]);
    expect(String(listed).split('\n')).toEqual(expect.arrayContaining(['./file', './same', './empty']));
    await bridge.stop();
  });

  test('is served by a daemon, and copied from, whole and with what it refers to', async () => {
    const daemon = await startDaemon(address);
    const { stdout } = await tvixStore(['cat', '--store', daemon.url, `${large}/file`], {
      encoding: 'latin1',
    } as never);
    expect(stdout.length).toBeGreaterThan(1_000_000);
    const to = join(dir, 'copied');
    const copied = await tvixStore(['copy', '--from', daemon.url, '--to', `local://${to}`, top, large]);
    expect(copied.status, copied.stderr).toBe(0);
    const told = await nix.pathInfos(['--store', own, '-r', top, large]);
    expect(await checkLocalStore(to)).toEqual(told.map(({ path }) => path).sort());
    await daemon.stop();
  });

  test('is listed, and takes nothing', async () => {
    const all = await tvixStore(['ls', '--store', address]);
    expect(all.stdout.split('\n')).toEqual(
      expect.arrayContaining([top, large].map((path) => path.slice(11))),
    );
    const put = await tvixStore(['import', '--store', address, join(dir, 'large')]);
    expect([put.status, put.stderr]).toEqual([1, expect.stringContaining('only read here')]);
  });

  test('gives nothing that has been changed', async () => {
    const rotten = String(
      await nix.run('nix', ['store', 'add-file', join(dir, 'build.nix'), '--store', own]),
    ).trim();
    const file = join(own, rotten);
    chmodSync(file, 0o644);
    appendFileSync(file, 'changed');
    const { status, stderr } = await tvixStore(['cat', '--store', address, rotten]);
    expect([status, stderr]).toEqual([
      1,
      expect.stringContaining('does not have the NAR hash that Nix tells of it'),
    ]);
    writeFileSync(file, readFileSync(join(dir, 'build.nix')));
    expect(await tvixStore(['cat', '--store', address, rotten])).toMatchObject({ status: 0, stdout: BUILD });
  });

  test('is not made where there is none, and is told of when there is no Nix', async () => {
    const none = await tvixStore(['ls', '--store', `nix-store://${dir}/none/nix/store`]);
    expect([none.status, none.stderr]).toEqual([1, `error: there is no ${dir}/none/nix/store\n`]);
    expect(existsSync(join(dir, 'none'))).toBe(false);
    const without = await run(process.execPath, ['dist/cli/main.js', 'ls', '--store', address], {
      env: { PATH: dir },
    });
    expect([without.status, without.stderr]).toEqual([
      1,
      expect.stringContaining('nix-daemon cannot be run'),
    ]);
    const wrong = await tvixStore(['ls', '--store', 'nix-store:///nix/var']);
    expect([wrong.status, wrong.stderr]).toEqual([2, expect.stringContaining('name a /nix/store')]);
  });
});
