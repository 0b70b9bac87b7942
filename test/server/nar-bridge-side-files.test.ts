import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { CacheServer } from '../helpers/binary-cache.ts';
import { tvixStore } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startNarBridge } from '../helpers/daemon.ts';
import { http } from '../helpers/http.ts';
import { describeNix, NIX_VERSION, NixUser } from '../helpers/nix.ts';
import { tempDir } from '../helpers/temp.ts';

/** Two outputs that are addressed by their contents, one of which has the other in it. */
const FLOATING = `
let
  make = name: script: derivation {
    inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ];
    __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";
  };
  dep = make "dep" "/bin/mkdir $out; echo hello > $out/file";
in make "top" "/bin/mkdir $out; echo \${dep} > $out/reference"
`;

/** What looks like debug information. */
const DEBUG = `
derivation { name = "debug"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" ''
  d=$out/lib/debug/.build-id/ab; /bin/mkdir -p $d; echo symbols > $d/cdef0123456789abcdef0123456789abcdef01.debug; echo what was built
'' ]; }
`;
const BUILD_ID = 'abcdef0123456789abcdef0123456789abcdef01';

describeNix('what a binary cache has besides, seen by the real Nix', () => {
  const nix = new NixUser();
  const dir = tempDir();
  const at = (name: string) => join(dir, name);
  let url: string;
  let key: string;

  beforeAll(async () => {
    const bridge = await startNarBridge(`local://${at('store')}`);
    url = `http://${bridge.at}`;
    const secret = await nix.run('nix', ['key', 'generate-secret', '--key-name', 'test-1']);
    writeFileSync(at('secret'), secret);
    key = (await nix.run('nix', ['key', 'convert-secret-to-public'], { input: secret })).toString().trim();
    writeFileSync(at('floating.nix'), FLOATING);
    writeFileSync(at('debug.nix'), DEBUG);
  });

  const build = async (file: string) =>
    (await nix.run('nix-build', ['--no-out-link', '--store', at('own'), at(file)])).toString().trim();

  test('a store that substitutes from it builds nothing, outputs by contents included', async () => {
    const top = await build('floating.nix');
    const drv = (await nix.run('nix-instantiate', ['--store', at('own'), at('floating.nix')]))
      .toString()
      .trim();
    const what = NIX_VERSION >= 2.15 ? `${drv}^*` : drv;
    await nix.run('nix', ['copy', '--store', at('own'), '--to', `${url}?secret-key=${at('secret')}`, what]);
    const user = new NixUser(`substituters = ${url}\ntrusted-public-keys = ${key}\nmax-jobs = 0\n`);
    const args = ['--no-out-link', '--store', at('fresh'), at('floating.nix')];
    expect((await user.run('nix-build', args)).toString().trim()).toBe(top);
    // So it is with a folder that they are copied to, and over the web.
    const other = await startNarBridge(`local://${at('copied')}`);
    for (const to of [`file://${at('folder')}`, `http://${other.at}`]) {
      const { status, stderr } = await tvixStore([
        'copy',
        '--from',
        `local://${at('store')}`,
        '--to',
        `nix+${to}`,
        top,
      ]);
      expect(status, stderr).toBe(0);
      const third = new NixUser(`substituters = ${to}\ntrusted-public-keys = ${key}\nmax-jobs = 0\n`);
      const fresh = ['--no-out-link', '--store', join(third.home, 'fresh'), at('floating.nix')];
      expect((await third.run('nix-build', fresh)).toString().trim()).toBe(top);
    }
    await other.stop();
  });

  test('logs are copied there, and read from there', async () => {
    const path = await build('debug.nix');
    const drv = (await nix.run('nix-instantiate', ['--store', at('own'), at('debug.nix')])).toString().trim();
    await nix.run('nix', ['store', 'copy-log', '--store', at('own'), '--to', url, drv]);
    await nix.run('nix', ['copy', '--store', at('own'), '--to', url, path]);
    expect((await nix.run('nix', ['log', '--store', url, path])).toString()).toBe('what was built\n');
  });

  test.each(['none', 'xz'])(
    'debug information is found by its build ID in what is compressed by %s',
    async (how) => {
      const path = await build('debug.nix');
      const other = await startNarBridge(`local://${at(how)}`);
      const to = `http://${other.at}?index-debug-info=true&compression=${how}`;
      await nix.run('nix', ['copy', '--store', at('own'), '--to', to, path]);
      const { status, body } = await http(other.port, `/debuginfo/${BUILD_ID}.debug`);
      expect(status).toBe(200);
      const { archive, member } = JSON.parse(body.toString());
      expect(member).toBe(`lib/debug/.build-id/ab/${BUILD_ID.slice(2)}.debug`);
      const nar = await http(other.port, new URL(archive, `http://${other.at}/debuginfo/`).pathname);
      expect(nar.status).toBe(200);
      await other.stop();
    },
  );
});

describe('files of a binary cache besides', () => {
  const DRV = `${'0'.repeat(32)}-a.drv`;
  const OTHER = `${'0'.repeat(32)}-b.drv`;
  const OUT = `${'1'.repeat(32)}-a`;

  let bridge: TestDaemon;

  beforeAll(async () => {
    bridge = await startNarBridge(`local://${tempDir()}`);
  });

  const put = (path: string, body: string | Uint8Array, headers: Record<string, string> = {}) =>
    http(bridge.port, path, { method: 'PUT', body, headers });
  const get = (path: string, headers: Record<string, string> = {}) => http(bridge.port, path, { headers });

  test('come back as they came, in parts and compressed where that is asked for', async () => {
    const log = 'a line\n'.repeat(100_000);
    expect((await put(`/log/${DRV}`, gzipSync(log), { 'content-encoding': 'gzip' })).status).toBe(200);
    expect((await get(`/log/${DRV}`)).body.toString()).toBe(log);
    const part = await get(`/log/${DRV}`, { range: 'bytes=7-8' });
    expect([part.status, part.body.toString()]).toEqual([206, 'a ']);
    const packed = await get(`/log/${DRV}`, { 'accept-encoding': 'zstd' });
    expect(packed.headers['content-encoding']).toBe('zstd');
    expect(packed.body.length).toBeLessThan(10_000);
    expect((await put(`/log/${DRV}`, '')).status).toBe(200);
    expect((await get(`/log/${DRV}`)).body.toString()).toBe('');
  });

  test('of today have their place too', async () => {
    const path = `/build-trace-v2/${DRV}/out.doi`;
    const sig = `${Buffer.alloc(64).toString('base64')}`;
    const text = (keyName: string) =>
      JSON.stringify({ outPath: OUT, signatures: [{ keyName, sig }], later: 1 });
    for (const name of ['one', 'two', 'two'])
      expect((await put(path.replace('.drv', '%2Edrv'), text(name))).status).toBe(200);
    // Signatures of the same path are united.
    const { outPath, signatures, later } = JSON.parse((await get(path)).body.toString());
    expect([outPath, later]).toEqual([OUT, 1]);
    expect(signatures).toEqual([
      { keyName: 'one', sig },
      { keyName: 'two', sig },
    ]);
    expect((await put(path, JSON.stringify({ outPath: `${'2'.repeat(32)}-a` }))).status).toBe(200);
    expect(JSON.parse((await get(path)).body.toString()).signatures).toEqual([]);
  });

  test('of a cache that is read through are handed on', async () => {
    const cache = await CacheServer.start();
    const far = await startNarBridge(cache.address, '127.0.0.1:0', ['--cache', tempDir()]);
    const ask = (path: string, method = 'GET') => http(far.port, path, { method });
    const id = `sha256:${'a'.repeat(64)}!out`;
    cache.files.set(`/log/${DRV}`, 'the log');
    cache.files.set(`/realisations/${id}.doi`, `{"id":"${id}","outPath":"${OUT}"}`);
    expect((await ask(`/log/${DRV}`)).body.toString()).toBe('the log');
    for (let i = 0; i < 20; i++) expect((await ask(`/log/${DRV}`, 'HEAD')).status).toBe(200);
    expect(JSON.parse((await ask(`/realisations/${id}.doi`)).body.toString()).outPath).toBe(OUT);
    expect((await ask(`/log/${OTHER}`)).status).toBe(404);
    cache.twists.set(`/log/${OTHER}`, (_, response) => response.writeHead(400).end('no'));
    expect((await ask(`/log/${OTHER}`)).status).toBe(404);
    await far.stop();
  });

  test.each([
    ['/log/../nar', 'x'],
    ['/log/no-path.drv', 'x'],
    [`/log/${OUT}`, 'x'],
    ['/realisations/sha256:abc!out.doi', '{}'],
    [`/realisations/sha256:${'a'.repeat(64)}!out.doi`, 'no JSON'],
    [`/realisations/sha256:${'a'.repeat(64)}!out.doi`, '[]'],
    [`/realisations/sha256:${'a'.repeat(64)}!out.doi`, '{}'],
    [`/realisations/sha256:${'a'.repeat(64)}!out.doi`, `{"id":"sha256:b!out","outPath":"${OUT}"}`],
    [`/realisations/sha256:${'a'.repeat(64)}!out.doi`, `{"outPath":"${OUT}","signatures":["no"]}`],
    [`/realisations/sha256:${'a'.repeat(64)}!out.doi`, `{"outPath":"${OUT}","signatures":[null]}`],
    [`/build-trace-v2/${OUT}/out.doi`, `{"outPath":"${OUT}"}`],
    [`/build-trace-v2/${DRV}/a/b.doi`, `{"outPath":"${OUT}"}`],
    ['/debuginfo/abcdef01.debug', '{"archive":"../../etc/passwd"}'],
    ['/debuginfo/abcdef01.debug', '{"archive":1}'],
    ['/debuginfo/zz', '{}'],
    ['/debuginfo/%', '{}'],
    [`/log/${OTHER}`, 'x', { 'content-encoding': 'gzip' }],
    [`/log/${OTHER}`, 'x', { 'content-encoding': 'rot13' }, 415],
    [`/log/${OTHER}`, 'x', { 'content-encoding': Array(3000).fill('xz').join() }, 415],
    [`/debuginfo/abcdef01.debug`, gzipSync(Buffer.alloc(2 << 20, ' ')), { 'content-encoding': 'gzip' }],
  ] as [string, string | Uint8Array, Record<string, string>?, number?][])(
    'are refused as %s',
    async (path, body, headers, status = 400) => {
      const answer = await put(path, body, headers);
      expect(answer.status, answer.body.toString()).toBe(status);
      expect((await get(path)).status).toBe(404);
    },
  );
});
