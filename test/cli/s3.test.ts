import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CLI, run, tvixStore } from '../helpers/cli.ts';
import { openAt } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { S3Server } from '../helpers/s3.ts';
import { all, checkComplete } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree, symlink, writeTree } from '../helpers/trees.ts';

// A cluster of this file's own: its gateway is killed.
const clusterDir = join(tempDir(), 's3');
const started = S3Server.start(clusterDir);
const declare = started instanceof S3Server ? describe : describe.skip;
const reason = started instanceof S3Server ? '' : ` (${started.missing})`;
const server = started as S3Server;

const dir = tempDir();
const tree = join(dir, 'tree');
const newCache = () => join(tempDir(), 'cache');

beforeAll(() => {
  writeTree(
    tree,
    directory({
      generated: generateTree(150, 5),
      deep: directory({ a: directory({ b: directory({ script: file('#!/bin/sh\necho ran\n', true) }) }) }),
      empty: directory(),
      nothing: file(''),
      link: symlink('deep/a/b/script'),
      large: file(randomBytes(3 << 20, 'large in S3')),
      'not-utf8-\xff': file('bytes'),
    }),
  );
});
afterAll(() => {
  if (started instanceof S3Server) started.stop();
});

/** An import under way. */
function startImport(address: string, path = tree) {
  const child = spawn(process.execPath, [CLI, 'import', '--store', address, path]);
  const ended = Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]).then(
    ([stdout, stderr, [status]]) => ({ stdout, stderr, status }),
  );
  return { child, ended };
}

/** Resolves when so many objects have arrived. */
async function arrived(address: string, count: number): Promise<void> {
  const objects = await server.objects(address);
  while ((await all(objects.list('chunks/'))).length < count);
  await objects.close();
}

/** The store paths in a bucket, each read back whole. */
async function completePaths(address: string): Promise<string[]> {
  const store = await openAt(address);
  const infos = await all(store.pathInfos.list());
  for (const info of infos) await checkComplete(store, info);
  await store.close();
  return infos.map(({ storePath }) => storePath.absolute());
}

declare(`a store in S3${reason}`, () => {
  test('takes a tree, gives its files to others, and is mounted', async () => {
    const address = server.address();
    const imported = await tvixStore(['import', '--store', address, tree]);
    expect(imported).toMatchObject({ status: 0, stderr: '' });
    const path = imported.stdout.trim();
    const cache = newCache();
    const elsewhere = (command: string, ...args: string[]) =>
      tvixStore([command, '--store', address, '--cache', cache, ...args]);
    expect((await elsewhere('ls')).stdout).toBe(`${path.slice('/nix/store/'.length)}\n`);
    expect((await elsewhere('cat', `${path}/deep/a/b/script`)).stdout).toBe('#!/bin/sh\necho ran\n');
    expect((await elsewhere('ls', `${path}/deep/a`)).stdout).toBe('b\n');
    const again = await tvixStore(['import', '--store', address, '--cache', cache, tree]);
    expect(again).toEqual(imported);
    const mounted = await mount(['--store', address, '--cache', newCache(), '--list-root']);
    const shown = join(mounted.dir, path.slice('/nix/store/'.length));
    expect(await run('diff', ['-r', '--no-dereference', tree, shown])).toEqual({
      status: 0,
      stdout: '',
      stderr: '',
    });
    expect((await run(join(shown, 'deep/a/b/script'), [])).stdout).toBe('ran\n');
    const { status, log } = await mounted.stop();
    expect(status).toBe(0);
    expect(log).not.toContain('Warning');
    expect(log).not.toContain('testsecret');
  });

  test('shows nothing of an upload that was cut, which can be made again', async () => {
    const address = server.address();
    for (const count of [1, 60]) {
      const { child, ended } = startImport(address);
      await arrived(address, count);
      child.kill('SIGKILL');
      await ended;
      expect(await completePaths(address)).toEqual([]);
    }
    const { status, stdout } = await startImport(address).ended;
    expect(status).toBe(0);
    expect(await completePaths(address)).toEqual([stdout.trim()]);
  });

  test('takes an import through the death of its gateway, when it comes back', async () => {
    const address = server.address();
    const { ended } = startImport(address);
    await arrived(address, 60);
    server.killGateway();
    server.startGateway();
    const { status, stdout, stderr } = await ended;
    expect([status, stderr]).toEqual([0, expect.not.stringContaining('error: ')]);
    expect(await completePaths(address)).toEqual([stdout.trim()]);
  });

  test('is collected: what nothing holds goes, and what a root holds is whole', async () => {
    const at = ['--store', server.address(), '--cache', newCache()];
    const script = join(dir, 'script');
    writeFileSync(script, 'echo of no use');
    const gone = (await tvixStore(['import', ...at, script])).stdout.trim();
    const kept = (await tvixStore(['import', ...at, tree])).stdout.trim();
    expect(await tvixStore(['root', 'add', ...at, 'kept', kept])).toMatchObject({ status: 0 });
    const report = await tvixStore(['gc', ...at, '--older-than', '0', '--grace', '0', '--json']);
    expect(report.status, report.stderr).toBe(0);
    expect(JSON.parse(report.stdout)).toMatchObject({ paths: 1, kept: 1, chunks: 1 });
    expect((await tvixStore(['path-info', ...at, '--all'])).stdout).toBe(`${kept}\n`);
    expect((await tvixStore(['fsck', ...at])).stdout).toContain('all is well');
    expect(await tvixStore(['import', ...at, script])).toMatchObject({ status: 0, stdout: `${gone}\n` });
  });

  test('says that its gateway is gone, and shows no part of the path', async () => {
    const address = server.address();
    const other = join(dir, 'other');
    writeFileSync(other, randomBytes(40 << 20, 'other'));
    const { child, ended } = startImport(address, other);
    await arrived(address, 10);
    server.killGateway();
    // It waits for a minute; this is long enough.
    await new Promise((resolve) => child.stderr.once('data', resolve));
    child.kill('SIGKILL');
    const { stdout, stderr } = await ended;
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^warn: the store is away; trying again /);
    expect(stderr).toContain(`cannot reach ${server.endpoint}`);
    server.startGateway();
    expect(await completePaths(address)).toEqual([]);
  });

  test('mounted, says EIO while its gateway is gone, and goes on when it is back', async () => {
    const address = server.address();
    const { stdout } = await tvixStore(['import', '--store', address, tree]);
    const mounted = await mount(['--store', address, '--cache', newCache(), '--timeout', '2s']);
    const shown = join(mounted.dir, stdout.trim().slice('/nix/store/'.length));
    expect((await run('cat', [join(shown, 'deep/a/b/script')])).stdout).toContain('echo ran');
    server.killGateway();
    expect((await run('cat', [join(shown, 'large')])).stderr).toContain('Input/output error');
    expect((await run('cat', [join(shown, 'deep/a/b/script')])).stdout).toContain('echo ran');
    server.startGateway();
    expect(await run('diff', ['-r', '--no-dereference', tree, shown])).toEqual({
      status: 0,
      stdout: '',
      stderr: '',
    });
    await mounted.stop();
  });
});
