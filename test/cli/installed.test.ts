import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { TestContext } from 'vitest';
import { beforeAll, describe, expect, test } from 'vitest';
import { ROOT, run } from '../helpers/cli.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

/** As in scripts/test-matrix. */
const VERSIONS = ['22.19.0', '24', '26'];
const TIMEOUT = { timeout: 300_000 };
const LEFT_OUT = ['node_modules', 'dist', '.git', '.ci'];

const dir = tempDir();
const clone = join(dir, 'clone');
/** Where programs are found, without what this clone puts in front. */
const PATH = process.env.PATH!.split(':').filter((folder) => !folder.startsWith(ROOT));

/** A setting of npm, as the machine's own has it: another Node's looks for its files elsewhere. */
function npmSetting(name: string): string {
  const env = { ...process.env, PATH: PATH.join(':') };
  return spawnSync('npm', ['config', 'get', name], { encoding: 'utf8', env }).stdout.trim();
}

/** The way to packages from here: what has been fetched, a registry, a proxy or authorities of one's own. */
const TO_PACKAGES = {
  npm_config_cache: npmSetting('cache'),
  npm_config_userconfig: npmSetting('userconfig'),
  npm_config_globalconfig: npmSetting('globalconfig'),
  npm_config_prefer_offline: 'true',
  npm_config_fetch_retries: '1',
};

/** A Node of this version; what is wrong where it cannot be had. */
function nodeOf(version: string): { path: string } | { problem: string } {
  const { status, stdout, stderr } = spawnSync(join(ROOT, 'scripts/bring-node'), [version], {
    encoding: 'utf8',
  });
  return status === 0 ? { path: stdout.trim() } : { problem: stderr.trim() };
}

/** As on a machine with this Node, where nobody has used npm. */
function environment(node: string) {
  return { PATH: [dirname(node), ...PATH].join(':'), HOME: tempDir(), ...TO_PACKAGES };
}

/** Runs a program that fetches packages; where there is no way to them, the test is skipped. */
async function fetching(context: TestContext, command: string, args: string[], env: NodeJS.ProcessEnv) {
  const result = await run(command, args, { env, cwd: tempDir(), timeout: 120_000 });
  const [away] = /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH)\b/.exec(result.stderr) ?? [];
  context.skip(result.status !== 0 && away !== undefined, `the packages cannot be fetched: ${away}`);
  return result;
}

/** Files, links and folders below a folder. */
function below(path: string): string[] {
  return readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();
}

beforeAll(() => {
  cpSync(ROOT, clone, {
    recursive: true,
    filter: (path) => !LEFT_OUT.includes(relative(ROOT, path)),
  });
  symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
});

describe('the package', TIMEOUT, () => {
  let tarball = '';
  beforeAll(async () => {
    const { status, stdout, stderr } = await run('npm', ['pack', '--json', '--pack-destination', dir], {
      cwd: clone,
      timeout: 280_000,
    });
    expect(status, stderr).toBe(0);
    tarball = join(dir, /tvix-store-[\w.]+\.tgz/.exec(stdout)![0]);
  }, 300_000);

  test('has what runs, and neither sources nor tests, nor a place on this machine', async () => {
    const { stdout } = await run('tar', ['-tzf', tarball]);
    const names = stdout.trim().split('\n');
    for (const name of ['dist/cli/main.js', 'dist/index.d.ts', 'dist/man/tvix-store.1', 'package.json'])
      expect(names).toContain(`package/${name}`);
    expect(new Set(names.map((name) => name.split('/')[1]))).toEqual(
      new Set(['LICENSE', 'README.md', 'dist', 'package.json', 'protos']),
    );
    expect(names.filter((name) => /(?<!\.d)\.ts$|\.test\./.test(name))).toEqual([]);
    const main = await run('tar', ['-xOzf', tarball, 'package/dist/cli/main.js']);
    expect(main.stdout.split('\n')[0]).toBe('#!/usr/bin/env node');
    expect(main.stdout).not.toContain(clone);
  });

  for (const version of VERSIONS) {
    const node = nodeOf(version);
    const title = `installed by npm on Node ${version}, runs, imports, lists and mounts`;
    if ('problem' in node) test.skip(`${title} (skipped: ${node.problem})`, () => {});
    else
      test(title, TIMEOUT, async (context) => {
        const at = tempDir();
        const env = environment(node.path);
        const { status, stderr } = await fetching(
          context,
          'npm',
          ['install', '--global', '--prefix', join(at, 'prefix'), tarball],
          env,
        );
        expect(status, stderr).toBe(0);
        writeTree(join(at, 'tree'), directory({ sub: directory({ file: file('contents') }) }));
        mkdirSync(join(at, 'mnt'));
        const good = async (...args: string[]) => {
          const result = await run(join(at, 'prefix/bin/tvix-store'), args, {
            env: { ...env, TVIX_STORE: `local://${at}/store` },
            cwd: at,
          });
          expect({ args, status: result.status, stderr: result.stderr }).toMatchObject({ status: 0 });
          return result.stdout.trim();
        };
        expect(await good('--version')).toBe(
          JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).version,
        );
        const path = await good('import', 'tree');
        expect(await good('ls', '-R', path)).toBe('sub\nsub/file');
        const mount = Number(await good('mount', '--background', join(at, 'mnt')));
        try {
          const inMount = join(at, 'mnt', path.slice('/nix/store/'.length), 'sub/file');
          const { stdout } = await run('cat', [inMount], { timeout: 30_000 });
          expect(stdout).toBe('contents');
        } finally {
          process.kill(mount);
        }
      });
  }
});

describe('scripts/install', TIMEOUT, () => {
  const node = nodeOf('24');
  const skipped = 'problem' in node ? ` (skipped: ${node.problem})` : '';
  const verifies = spawnSync('systemd-analyze', ['--version']).status === 0;
  const unverified = verifies ? '' : ' (there is no systemd-analyze here, so units are not verified)';

  test.skipIf('problem' in node)(
    `puts everything in its place, and takes exactly that away again${skipped}${unverified}`,
    async (context) => {
      const env = environment((node as { path: string }).path);
      const prefix = join(tempDir(), 'some where');
      mkdirSync(join(prefix, 'share/man/man1'), { recursive: true });
      writeFileSync(join(prefix, 'share/man/man1/mine.1'), 'mine');
      const before = below(prefix);
      const script = join(clone, 'scripts/install');
      const { status, stderr } = await fetching(context, script, ['--prefix', prefix], env);
      expect(status, stderr).toBe(0);
      const after = below(prefix);
      for (const name of [
        'bin/tvix-store',
        'bin/mount.fuse.tvix-store',
        'share/man/man1/tvix-store-mount.1',
        'share/bash-completion/completions/tvix-store',
        'share/zsh/site-functions/_tvix-store',
        'share/fish/vendor_completions.d/tvix-store.fish',
        ...readdirSync(join(ROOT, 'scripts/units')).map((unit) => `lib/systemd/system/${unit}`),
      ])
        expect(after).toContain(name);
      const program = join(prefix, 'bin/tvix-store');
      expect(await run(program, ['--version'], { env })).toMatchObject({ status: 0, stderr: '' });
      const units = join(prefix, 'lib/systemd/system');
      for (const unit of readdirSync(units).filter((name) => name.endsWith('.service')))
        expect(readFileSync(join(units, unit), 'utf8')).toContain(`ExecStart="${program}" `);
      if (verifies) {
        const paths = readdirSync(units).map((unit) => join(units, unit));
        expect(await run('systemd-analyze', ['verify', ...paths])).toMatchObject({ status: 0, stderr: '' });
      }

      // What somebody else puts into a folder that came with it stays.
      writeFileSync(join(units, 'mine.service'), 'mine');
      const removed = await run(script, ['--prefix', prefix, '--uninstall'], { env });
      expect(removed.status, removed.stderr).toBe(0);
      expect(below(prefix)).toEqual(
        [...before, 'lib', 'lib/systemd', 'lib/systemd/system', 'lib/systemd/system/mine.service'].sort(),
      );
      const again = await run(script, ['--prefix', prefix, '--uninstall'], { env });
      expect([again.status, again.stderr]).toEqual([
        1,
        `error: scripts/install has put nothing into ${prefix}\n`,
      ]);
    },
  );
});
