import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SecretKey } from '../../src/nix/key.ts';
import { tvixStore } from '../helpers/cli.ts';
import { mount } from '../helpers/mount.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { tempDir } from '../helpers/temp.ts';

/** A program that refers to a library, and both to where they are. */
const PACKAGES = `rec {
  make = name: script: derivation {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" "PATH=/bin; \${script}" ];
  };
  library = make "library" "mkdir $out; echo of the library > $out/text; echo $out > $out/self";
  program = make "program" "mkdir $out; read line < \${library}/text; echo \\"says $line\\" > $out/said; echo \${library} > $out/library";
}`;

describeNix('with a real Nix', () => {
  const dir = tempDir();
  const key = SecretKey.generate('nix-test-1');
  const nix = new NixUser();
  const store = join(dir, 'store');
  const cache = join(dir, 'binary-cache');
  const address = `nix+file://${cache}?trusted-public-keys=${encodeURIComponent(key.publicKey.toString())}`;
  const flags = ['--store', address, '--cache', join(dir, 'cache')];
  const overlays: string[] = [];
  let library: string;
  let program: string;

  const build = async (attribute: string, root: string, more: string[] = []) =>
    String(
      await nix.run('nix-build', [
        '--no-out-link',
        '--store',
        root,
        ...more,
        '-E',
        `(${PACKAGES}).${attribute}`,
      ]),
    ).trim();
  const lines = (text: Buffer | string) => String(text).trim().split('\n').sort();

  beforeAll(async () => {
    library = await build('library', store);
    program = await build('program', store);
    const keyFile = join(dir, 'key');
    writeFileSync(keyFile, key.secret());
    await nix.run('nix', [
      'copy',
      '--store',
      store,
      '--to',
      `file://${cache}?secret-key=${keyFile}`,
      program,
    ]);
  });

  afterAll(() => {
    for (const overlay of overlays) spawnSync('umount', ['-l', overlay]);
  });

  test.each(['none', 'xz', 'zstd', 'gzip', 'bzip2', 'br'])(
    'a path that it copied into a cache with the compression %s is read',
    async (compression) => {
      const to = join(dir, `cache-${compression}`);
      await nix.run('nix', [
        'copy',
        '--store',
        store,
        '--to',
        `file://${to}?compression=${compression}`,
        library,
      ]);
      const from = ['--store', `nix+file://${to}?trusted=1`, '--cache', join(dir, `fetched-${compression}`)];
      expect((await tvixStore(['cat', ...from, `${library}/text`])).stdout).toBe('of the library\n');
    },
  );

  test('nix-db prints for a closure what Nix itself does, and needs no contents', async () => {
    const described = join(dir, 'described');
    spawnSync('cp', ['-r', cache, described]);
    rmSync(join(described, 'nar'), { recursive: true });
    const from = ['--store', `nix+file://${described}?trusted=1`, '--cache', join(dir, 'described-cache')];
    const { stdout, stderr } = await tvixStore(['nix-db', ...from, program]);
    const theirs = await nix.run('nix-store', ['--store', store, '--dump-db', library, program]);
    // Their own order may be another.
    expect(lines(stdout), stderr).toEqual(lines(theirs));
  });

  test('nix-db says what a closure lacks', async () => {
    const broken = join(dir, 'broken');
    spawnSync('cp', ['-r', cache, broken]);
    rmSync(join(broken, `${library.slice('/nix/store/'.length).slice(0, 32)}.narinfo`));
    const from = ['--store', `nix+file://${broken}?trusted=1`, '--cache', join(dir, 'broken-cache')];
    const { status, stdout, stderr } = await tvixStore(['nix-db', ...from, program]);
    expect(status).toBe(1);
    expect(stderr).toContain(library);
    expect(stdout).toContain(`${program}\n`);
  });

  test('a mount is a store that it verifies, and whose references it knows', async () => {
    const root = join(dir, 'verified');
    mkdirSync(join(root, 'nix/store'), { recursive: true });
    await mount(['--allow-other', '--list-root', ...flags], join(root, 'nix/store'));
    const { stdout } = await tvixStore(['nix-db', ...flags, program]);
    await nix.run('nix-store', ['--store', root, '--load-db'], { input: Buffer.from(stdout) });
    expect(lines(await nix.run('nix-store', ['--store', root, '-qR', program]))).toEqual(
      [library, program].sort(),
    );
    await nix.run('nix-store', ['--store', root, '--verify-path', program, library]);
    const verified = await nix.try('nix-store', ['--store', root, '--verify', '--check-contents']);
    expect(verified.status, verified.stderr).toBe(0);
    const deleted = await nix.try('nix-store', ['--store', root, '--delete', program]);
    expect(deleted.stderr).toContain('Read-only file system');
  });

  test('a mount is the real directory of a store (real=)', async () => {
    const { dir: mounted } = await mount(['--allow-other', ...flags]);
    const url = `local?root=${join(dir, 'state')}&real=${mounted}`;
    const { stdout } = await tvixStore(['nix-db', ...flags, program]);
    await nix.run('nix-store', ['--store', url, '--load-db'], { input: Buffer.from(stdout) });
    const read = await nix.run('nix', ['store', 'cat', '--store', url, `${program}/said`]);
    expect(String(read)).toBe('says of the library\n');
    const to = join(dir, 'copied');
    await nix.run('nix', ['copy', '--no-check-sigs', '--from', url, '--to', to, program]);
    await nix.run('nix-store', ['--store', to, '--verify-path', program]);
  });

  test('it builds on a mount, below an overlay, and takes the inputs from there', async () => {
    const { dir: lower } = await mount(['--allow-other', ...flags]);
    const root = join(dir, 'built');
    const parts = { upper: join(dir, 'upper'), work: join(dir, 'work'), merged: join(root, 'nix/store') };
    for (const part of Object.values(parts)) mkdirSync(part, { recursive: true });
    const options = `lowerdir=${lower},upperdir=${parts.upper},workdir=${parts.work}`;
    const { status, stderr } = spawnSync('mount', ['-t', 'overlay', 'overlay', '-o', options, parts.merged]);
    expect(status, String(stderr)).toBe(0);
    overlays.push(parts.merged);
    // The library is there by its registration alone; the program is built.
    const { stdout } = await tvixStore(['nix-db', ...flags, library]);
    await nix.run('nix-store', ['--store', root, '--load-db'], { input: Buffer.from(stdout) });
    expect(await build('program', root)).toBe(program);
    expect(existsSync(join(parts.upper, program.slice('/nix/store/'.length), 'said'))).toBe(true);
    expect(existsSync(join(parts.upper, library.slice('/nix/store/'.length)))).toBe(false);
  });
});
