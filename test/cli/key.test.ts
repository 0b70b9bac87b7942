import { spawn } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { CLI, run, tvixStore } from '../helpers/cli.ts';
import { describeNix, NixUser } from '../helpers/nix.ts';
import { tempDir } from '../helpers/temp.ts';

const SECRET =
  'cache.example.com-1:cCta2MEsRNuYCgWYyeRXLyfoFpKhQJKn8gLMeXWAb7vIpRKKo/3JoxJ24OYa3DxT2JVV38KjK/1ywHWuMe2JEw==';
const PUBLIC = 'cache.example.com-1:yKUSiqP9yaMSduDmGtw8U9iVVd/Coyv9csB1rjHtiRM=';

/** What `key public` says to this on its standard input. */
async function publicOf(secret: string): Promise<string> {
  const child = spawn(process.execPath, [CLI, 'key', 'public'], { timeout: 60_000 });
  child.stdin.end(secret);
  return (await buffer(child.stdout)).toString();
}

/** Runs the command as `"$0" "$@"` in a script. */
function inShell(script: string, ...args: string[]) {
  return run('sh', ['-c', script, process.execPath, CLI, ...args]);
}

function keyFile(contents: string, mode = 0o600): string {
  const file = join(tempDir(), 'secret');
  writeFileSync(file, contents);
  chmodSync(file, mode);
  return file;
}

describe('key generate', () => {
  test('prints a secret key, and another one each time', async () => {
    const [one, two] = [
      await tvixStore(['key', 'generate', 'a_b-1']),
      await tvixStore(['key', 'generate', 'a_b-1']),
    ];
    expect([one.status, one.stderr]).toEqual([0, '']);
    expect(one.stdout).toMatch(/^a_b-1:[A-Za-z0-9+/]{86}==\n$/);
    expect(two.stdout).not.toBe(one.stdout);
    expect(await publicOf(one.stdout)).toMatch(/^a_b-1:[A-Za-z0-9+/]{43}=\n$/);
  });

  test.each(['', 'a:b', 'a b'])('refuses the name %j', async (name) => {
    const { status, stdout, stderr } = await tvixStore(['key', 'generate', name]);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^error: the name of a key cannot be ".*": it must not be empty or contain/);
  });
});

describe('key generate --file', () => {
  test('writes a key that only its owner can read, and prints the public one', async () => {
    const file = join(tempDir(), 'secret');
    const { status, stdout, stderr } = await inShell(
      `umask 000; "$0" "$@"`,
      'key',
      'generate',
      '--file',
      file,
      'a-1',
    );
    expect([status, stderr]).toEqual([0, '']);
    expect(statSync(file).mode & 0o7777).toBe(0o600);
    expect(readFileSync(file, 'utf8')).toMatch(/^a-1:[A-Za-z0-9+/]{86}==\n$/);
    expect(stdout).toBe(await publicOf(readFileSync(file, 'utf8')));
    expect((await tvixStore(['key', 'public', '--file', file])).stderr).toBe('');
  });

  test('leaves what is there as it is: a file, a directory, a dangling link', async () => {
    const dir = tempDir();
    writeFileSync(join(dir, 'file'), 'precious');
    mkdirSync(join(dir, 'directory'));
    symlinkSync('nowhere', join(dir, 'link'));
    for (const name of ['file', 'directory', 'link']) {
      const path = join(dir, name);
      const { status, stdout, stderr } = await tvixStore(['key', 'generate', '--file', path, 'a-1']);
      expect([status, stdout, stderr]).toEqual([
        1,
        '',
        `error: ${path} is there already, and is left as it is\n`,
      ]);
    }
    expect(readFileSync(join(dir, 'file'), 'utf8')).toBe('precious');
    expect(readdirSync(dir).sort()).toEqual(['directory', 'file', 'link']);
  });

  test('leaves nothing behind where it cannot write', async () => {
    const path = join(tempDir(), 'none', 'secret');
    const { status, stdout, stderr } = await tvixStore(['key', 'generate', '--file', path, 'a-1']);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^error: cannot write .*\/none\/secret: no such file or directory\n$/);
  });

  test('of two at once, one writes', async () => {
    const path = join(tempDir(), 'secret');
    const names = Array.from({ length: 4 }, (_, i) => `key-${i}`);
    const results = await Promise.all(
      names.map((name) => tvixStore(['key', 'generate', '--file', path, name])),
    );
    const [winner, ...others] = results.filter(({ status }) => status === 0);
    expect(others).toEqual([]);
    expect(winner!.stdout).toBe(await publicOf(readFileSync(path, 'utf8')));
    expect(readdirSync(dirname(path))).toEqual(['secret']);
  });
});

describe('key public', () => {
  test('prints the public key of a secret one, from standard input or a file', async () => {
    expect(await publicOf(SECRET)).toBe(`${PUBLIC}\n`);
    expect(await publicOf(`${SECRET}\n`)).toBe(`${PUBLIC}\n`);
    const result = await tvixStore(['key', 'public', '--file', keyFile(SECRET)]);
    expect(result).toEqual({ status: 0, stdout: `${PUBLIC}\n`, stderr: '' });
  });

  test.each([0o640, 0o604, 0o644])('warns of a file with the mode %o', async (mode) => {
    const file = keyFile(SECRET, mode);
    const { status, stdout, stderr } = await tvixStore(['key', 'public', '--file', file]);
    expect([status, stdout]).toEqual([0, `${PUBLIC}\n`]);
    expect(stderr).toBe(`warn: others can read the secret key: chmod 600 it file=${file}\n`);
  });

  test('ends with 2 for a file without a secret key, and names it', async () => {
    const file = keyFile(PUBLIC);
    const bad = await tvixStore(['key', 'public', '--file', file]);
    expect([bad.status, bad.stdout]).toEqual([2, '']);
    expect(bad.stderr).toContain(`error: cannot use the secret key in ${file}: not a secret key`);
    const absent = await tvixStore(['key', 'public', '--file', `${file}-absent`]);
    expect([absent.status, absent.stdout]).toEqual([2, '']);
    expect(absent.stderr).toContain(`${file}-absent: no such file or directory\n`);
  });
});

describeNix('key, beside that of Nix', () => {
  test('makes keys that Nix takes, and takes those that it makes', async () => {
    const nix = new NixUser();
    const ours = (await tvixStore(['key', 'generate', 'x-1'])).stdout;
    const theirs = (await nix.run('nix', ['key', 'generate-secret', '--key-name', 'x-1'])).toString();
    for (const secret of [ours, theirs]) {
      const input = Buffer.from(secret);
      const converted = await nix.run('nix', ['key', 'convert-secret-to-public'], { input });
      expect(await publicOf(secret)).toBe(`${converted}\n`);
    }
  });
});
