import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { tvixStore } from '../helpers/cli.ts';
import { localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const dir = tempDir();
const local = `local://${dir}/local`;
const FAR = 'grpc+http://127.0.0.1:1';
await localStore(`${dir}/local`).close();
writeFileSync(
  `${dir}/local.toml`,
  ['blobservices', 'directoryservices', 'pathinfoservices']
    .map((kind) => `[${kind}.root]\ntype = "local"\npath = "${dir}/local"\n`)
    .join(''),
);

describe('flags that would do nothing are wrong usage:', () => {
  test.each([
    [['mount', '--store', local, '--offline', dir], '--offline has no effect here: local:'],
    [['mount', '--store', local, '--cache-size', '1G', dir], '--cache-size has no effect here: local:'],
    [['mount', '--store', local, '--timeout', '30s', dir], '--timeout has no effect here: local:'],
    [['mount', '--store', local, '--hard', dir], '--hard has no effect here: local:'],
    [['mount', '--store', local, '--verify', 'chunks', dir], '--verify has no effect here: local:'],
    [
      ['mount', '--store-composition', `${dir}/local.toml`, '--cache-size', '1G', dir],
      '--cache-size has no effect',
    ],
    [
      ['mount', '--store', FAR, '--offline', '--cache-size', '1G', dir],
      '--cache-size has no effect here: noth',
    ],
    [
      ['mount', '--store', FAR, '--offline', '--timeout', '3s', dir],
      '--timeout has no effect here: nothing is',
    ],
    [
      ['mount', '--store', FAR, '--offline', '--verify', 'whole', dir],
      '--verify has no effect here: nothing',
    ],
    [
      ['mount', '--store', local, '--driver', 'fuse-native', '--readers', '1', dir],
      '--readers has no effect',
    ],
    [['virtiofs', '--store', local, '--offline', `${dir}/s`], '--offline has no effect here'],
    [['virtiofs', '--store', local, '--cache-size', '1G', `${dir}/s`], '--cache-size has no effect here'],
    [
      ['daemon', '--store', local, '--cache-size', '1G', '-l', '127.0.0.1:0'],
      '--cache-size has no effect here',
    ],
    [
      ['nix-daemon', '--store', 'memory://', '--cache-size', '1G', '-l', `${dir}/n`],
      '--cache-size has no effect here',
    ],
    [
      [
        ...`nar-bridge --store nix+http://127.0.0.1:1 --cache ${dir}/local --cache-size 1G -l 127.0.0.1:0`.split(
          ' ',
        ),
      ],
      '--cache-size is for caches, and',
    ],
    [['virtiofs', '--store', local, '--socket-mode', '0600', '@name'], '--socket-mode is for a unix socket'],
    [
      ['daemon', '--store', local, '-l', '127.0.0.1:0', '--socket-mode', '0600'],
      '--socket-mode is for a unix',
    ],
    [['daemon', '--store', local, '-l', '@name', '--socket-uid', '0'], '--socket-uid is for a unix socket'],
    [['nar-bridge', '--store', local, '-l', 'sd-listen', '--socket-gid', '0'], '--socket-gid is for a unix'],
    [['nar-bridge', '--store', local, '--socket-mode', '0600'], '--socket-mode is for a unix socket'],
    [['fsck', '--store', local, '--from', FAR], '--from changes the store: it goes with --repair'],
  ])('%j', async (args, why) => {
    const { status, stdout, stderr } = await tvixStore(args, { timeout: 30_000 });
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^error: .*\n\(see tvix-store .* --help\)\n$/);
    expect(stderr).toContain(why);
    expect(readFileSync('/proc/self/mounts', 'utf8')).not.toContain(dir);
    expect(existsSync(`${dir}/s`)).toBe(false);
  });
});
