import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { run, startTvixStore, tvixStore } from '../helpers/cli.ts';
import { asDaemon, startDaemon } from '../helpers/daemon.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';

const dir = tempDir();
const tree = join(dir, 'tree');
const file = join(dir, 'store.toml');

beforeAll(() => {
  mkdirSync(tree);
  writeFileSync(join(tree, 'a'), 'contents of a\n');
  writeFileSync(file, layered('far'));
});

/** A cache in front of what `far` is in each section. */
function layered(far: string, options = ''): string {
  return ['blobservices', 'directoryservices', 'pathinfoservices']
    .map(
      (section) => `[${section}]
root = { type = "cache", near = "near", far = "${far}" }
near = { type = "local", path = "${dir}/near" }
far = { type = "local", path = "${dir}/far" }
${options}
`,
    )
    .join('');
}

describe('a composition file', () => {
  test('is a store for every command', async () => {
    const composed = ['--store-composition', file];
    const { stdout, stderr } = await tvixStore(['import', ...composed, tree]);
    expect(stderr).toBe('');
    const path = stdout.trim();
    expect((await tvixStore(['cat', ...composed, `${path}/a`])).stdout).toBe('contents of a\n');
    expect((await tvixStore(['ls', ...composed])).stdout.trim()).toBe(path.slice('/nix/store/'.length));
    const verified = await tvixStore(['verify', '--all'], {
      env: { ...process.env, TVIX_STORE_COMPOSITION: file },
    });
    expect(verified).toMatchObject({ status: 0, stdout: '1 store paths verified, all good\n' });
    const far = await tvixStore(['verify', '--all', '--store', `local://${dir}/far`]);
    expect(far).toMatchObject({ status: 0, stdout: '1 store paths verified, all good\n' });
  });

  test('is what a daemon serves, and what it reads goes on being there when the far one has gone', async () => {
    const behind = await startDaemon(`local://${dir}/behind`, `${dir}/behind.sock`);
    const path = (await tvixStore(['import', '--store', behind.url, tree])).stdout.trim();
    const front = join(dir, 'front.toml');
    writeFileSync(front, layered(`grpc+unix://${dir}/behind.sock`).replaceAll(`${dir}/near`, `${dir}/front`));
    const args = ['daemon', '-l', `${dir}/front.sock`, '--store-composition', front];
    const daemon = asDaemon(await startTvixStore(args, 'info: listening'));
    expect(daemon.log()).toContain(`store=${front}`);
    const read = () => tvixStore(['cat', '--store', daemon.url, `${path}/a`]);
    expect(await read()).toMatchObject({ status: 0, stdout: 'contents of a\n' });
    await behind.stop();
    expect(await read()).toMatchObject({ status: 0, stdout: 'contents of a\n' });
    expect(await daemon.stop()).toBe(0);
  });

  test('is checked and shown without opening anything', async () => {
    expect(await tvixStore(['composition', 'check', file])).toEqual({
      status: 0,
      stdout: `${file}: valid, with 9 services\n`,
      stderr: '',
    });
    const shown = await tvixStore(['composition', 'show', file]);
    expect(shown.stdout.split('\n').slice(0, 3)).toEqual([
      'blobs: root, cache (what is put goes far)',
      `  near: near, local path="${dir}/near"`,
      `  far: far, local path="${dir}/far"`,
    ]);
    const json = JSON.parse((await tvixStore(['composition', 'show', '--json', file])).stdout);
    expect(Object.keys(json)).toEqual(['blobs', 'directories', 'pathInfos']);
    expect(json.pathInfos).toMatchObject({ type: 'cache', puts: 'far', parts: { far: { type: 'local' } } });
  });

  test('is shown without the secrets in it', async () => {
    const secret = join(dir, 'secret.toml');
    writeFileSync(secret, layered('nix+https://me:password@cache?substituter=nix%2Bhttps%3A%2F%2Fother'));
    const { stdout } = await tvixStore(['composition', 'show', secret]);
    expect(stdout).toContain('far="nix+https://…@cache?substituter=…"');
    expect(stdout).not.toContain('password');
  });

  test('that is wrong is wrong usage, for every command', async () => {
    const wrong = join(dir, 'wrong.toml');
    writeFileSync(wrong, layered('missing'));
    const message = `error: ${wrong}:2: blobservices.root.far: there is no "missing"`;
    for (const command of [
      ['composition', 'check', wrong],
      ['composition', 'show', wrong],
      ['ls', '--store-composition', wrong],
      ['daemon', '-l', `${dir}/none.sock`, '--store-composition', wrong],
    ]) {
      const { status, stderr } = await tvixStore(command);
      expect(status).toBe(2);
      expect(stderr).toContain(message);
    }
  });
});

describe.runIf(process.getuid!() === 0)('a cache whose near disk is full', () => {
  const disk = join(dir, 'disk');

  beforeAll(() => {
    mkdirSync(disk);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', disk]);
  });
  afterAll(() => {
    execFileSync('umount', ['-l', disk]);
  });

  test('gives everything, and says once what it cannot do', async () => {
    const large = randomBytes(6 << 20, 'large');
    writeFileSync(join(tree, 'large'), large);
    const { stdout } = await tvixStore(['import', '--store', `local://${dir}/whole`, tree]);
    const store = ['--store', `cache://?near=local://${disk}/near&far=local://${dir}/whole`];
    // A near store that is there, and then nothing more goes in; `dd` ends with the error that it is there for.
    await tvixStore(['ls', ...store]);
    await run('dd', ['if=/dev/zero', `of=${disk}/filler`, 'bs=4k', 'status=none']);
    const dumped = await tvixStore(['nar', 'dump', ...store, stdout.trim()]);
    const expected = await tvixStore(['nar', 'dump', '--store', `local://${dir}/whole`, stdout.trim()]);
    expect(dumped.status).toBe(0);
    expect(dumped.stdout === expected.stdout).toBe(true);
    const warnings = dumped.stderr.split('\n').filter((line) => line.startsWith('warn: '));
    expect(warnings.length).toBeGreaterThan(0);
    expect(new Set(warnings.map((line) => line.split(';')[0])).size).toBe(warnings.length);
  });
});
