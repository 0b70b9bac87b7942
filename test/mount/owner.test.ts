import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { OP } from '../../src/fuse/opcodes.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import { DRIVERS, mount } from '../helpers/mount.ts';
import { tempDir } from '../helpers/temp.ts';
import { TestVirtiofs } from '../helpers/virtiofs.ts';

const dir = tempDir();
const store = `local://${dir}/store`;
let name: string;

beforeAll(async () => {
  const tree = join(dir, 'tree');
  mkdirSync(join(tree, 'sub'), { recursive: true });
  writeFileSync(join(tree, 'file'), 'contents');
  const { stdout } = await tvixStore(['import', '--store', store, tree]);
  name = stdout.trim().slice('/nix/store/'.length);
});

function id(what: string): string {
  return execFileSync('id', [what, 'nobody'], { encoding: 'utf8' }).trim();
}

test.each(DRIVERS)(
  '--uid and --gid say who owns everything, by number and by name, driver %s',
  async (driver) => {
    for (const [user, uid, group] of [
      ['nobody', Number(id('-u')), id('-gn')],
      ['4294967294', 4294967294, id('-g')],
    ] as const) {
      const gid = Number(id('-g'));
      const mounted = await mount(['--store', store, '--driver', driver, '--uid', user, '--gid', group]);
      for (const path of ['', name, `${name}/file`, `${name}/sub`]) {
        const found = await lstat(join(mounted.dir, path));
        expect([path, found.uid, found.gid]).toEqual([path, uid, gid]);
      }
      // As a listing brings them.
      const { stdout } = await run('ls', ['-ln', join(mounted.dir, name)]);
      expect(stdout).toMatch(new RegExp(`^-r--r--r-- 1 ${uid} +${gid} `, 'm'));
      expect((await mounted.stop()).status).toBe(0);
    }
  },
);

test('--uid and --gid hold for a virtual machine as well', async () => {
  const server = await TestVirtiofs.start(['--store', store, '--uid', '17', '--gid', '18']);
  await server.mounted(async (guest) => {
    const { error, body } = await guest.ask(OP.GETATTR, await guest.lookUp(name), Buffer.alloc(16), 128);
    expect([error, body.readUInt32LE(16 + 68), body.readUInt32LE(16 + 72)]).toEqual([0, 17, 18]);
  });
  expect((await server.stop()).status).toBe(0);
});

const git = (...args: string[]) =>
  run('git', args, { env: { PATH: process.env.PATH, HOME: dir, GIT_CONFIG_NOSYSTEM: '1' } });
const hasGit = await git('--version').then(
  ({ status }) => status === 0,
  () => false,
);

test.runIf(hasGit)('git works in a repository of the store when its user owns that', async () => {
  const repository = join(tempDir(), 'repository');
  mkdirSync(repository);
  await git('-C', repository, 'init', '-q');
  const { stdout } = await tvixStore(['import', '--store', store, repository]);
  const path = stdout.trim().slice('/nix/store/'.length);
  const others = await mount(['--store', store, '--uid', '17']);
  expect((await git('-C', join(others.dir, path), 'status')).stderr).toContain('dubious ownership');
  await others.stop();
  const ours = await mount(['--store', store, '--uid', String(process.getuid!())]);
  expect(await git('-C', join(ours.dir, path), 'status', '-s')).toMatchObject({ status: 0, stderr: '' });
  await ours.stop();
});
