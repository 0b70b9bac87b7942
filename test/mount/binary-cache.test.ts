import { writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Environment } from '../../src/castore/local/environment.ts';
import type { TestPath } from '../helpers/binary-cache.ts';
import { CacheServer, testPath } from '../helpers/binary-cache.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import { mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file } from '../helpers/trees.ts';

const library = testPath('library', { tree: directory({ 'lib.so': file(randomBytes(400_000, 'library')) }) });
const program = testPath('program', {
  tree: directory({ bin: directory({ run: file('#!/bin/sh\necho ran\n', true) }), data: file('data') }),
  references: [library],
});
const nameOf = ({ info }: TestPath) => info.storePath.toString();
const narPath = ({ info }: TestPath) => `/${info.url}`;

async function cat(path: string): Promise<string> {
  return (await run('cat', [path])).stdout;
}

describe('a mount of a binary cache', () => {
  test('fetches a path when it is first looked at, once, and nothing that it refers to', async () => {
    const cache = await CacheServer.start([program, library]);
    const address = cache.address.replace('//', '//user:secret@');
    const { dir, stop } = await mount(['--store', address, '--cache', join(tempDir(), 'cache')]);
    const root = join(dir, nameOf(program));
    expect(await cat(join(root, 'data'))).toBe('data');
    expect((await run(join(root, 'bin/run'), [])).stdout).toBe('ran\n');
    expect((await run('ls', [root])).stdout).toBe('bin\ndata\n');
    expect(cache.asked('/nar/')).toBe(1);
    expect(cache.asked(`/${library.info.storePath.hashText}`)).toBe(0);
    const { log } = await stop();
    expect(log).toContain('paths=1');
    expect(log).not.toContain('secret');
  });

  test('says of a path that is not there that it is not', async () => {
    const cache = await CacheServer.start();
    const { dir } = await mount(['--store', cache.address, '--cache', join(tempDir(), 'cache')]);
    for (let i = 0; i < 3; i++) {
      expect((await run('cat', [join(dir, nameOf(program))])).stderr).toContain('No such file or directory');
    }
    expect(cache.asked(`/${program.info.storePath.hashText}`)).toBe(1);
  });

  test('gives an error for a path that cannot be believed, and the path when it can', async () => {
    const cache = await CacheServer.start([testPath('program', { key: undefined })]);
    const { dir, stop } = await mount(['--store', cache.address, '--cache', join(tempDir(), 'cache')]);
    expect((await run('ls', [join(dir, nameOf(program))])).stderr).toContain('Input/output error');
    cache.add(program);
    expect((await run('ls', [join(dir, nameOf(program))])).stdout).toBe('bin\ndata\n');
    expect((await stop()).log).toContain('no valid signature');
  });

  test('that a store of its own stands before serves what that has, whether the cache is there or not', async () => {
    const cache = await CacheServer.start([program]);
    const dir = tempDir();
    writeFileSync(join(dir, 'own'), 'of its own');
    const own = `local://${dir}/store`;
    const path = (await tvixStore(['import', '--store', own, join(dir, 'own')])).stdout.trim();
    const combined = `combined://?near=${own}&far=${encodeURIComponent(cache.address)}`;
    const mounted = await mount(['--store', combined, '--cache', join(dir, 'cache')]);
    expect(await cat(join(mounted.dir, basename(path)))).toBe('of its own');
    expect(cache.asked('')).toBe(0);
    expect(await cat(join(mounted.dir, nameOf(program), 'data'))).toBe('data');
    await mounted.stop();
  });

  test('lists what it has fetched, for a cache cannot tell what it has', async () => {
    const cache = await CacheServer.start([program, library]);
    const { dir } = await mount([
      '--list-root',
      '--store',
      cache.address,
      '--cache',
      join(tempDir(), 'cache'),
    ]);
    expect((await run('ls', [dir])).stdout).toBe('');
    await cat(join(dir, nameOf(library), 'lib.so'));
    expect((await run('ls', [dir])).stdout).toBe(`${nameOf(library)}\n`);
  });

  test('waits for a path while it comes, however slowly, and fails when it stops coming', async () => {
    const cache = await CacheServer.start([library]);
    let stops = true;
    cache.twists.set(narPath(library), (_, response) => {
      response.writeHead(200, { 'content-length': library.file.length });
      let at = 0;
      const timer = setInterval(() => {
        if (response.destroyed || at >= library.file.length) {
          response.end();
          clearInterval(timer);
        } else if (!stops || at === 0) {
          response.write(library.file.subarray(at, at + 50_000));
          at += 50_000;
        }
      }, 300);
    });
    // Longer than the time out in all, and never so long without a byte.
    const args = ['--timeout', '2s', '--store', cache.address];
    const first = await mount([...args, '--cache', join(tempDir(), 'cache')]);
    expect((await run('ls', [join(first.dir, nameOf(library))])).stderr).toContain('Input/output error');
    stops = false;
    const second = await mount([...args, '--cache', join(tempDir(), 'cache')]);
    expect((await run('ls', [join(second.dir, nameOf(library))])).stdout).toBe('lib.so\n');
  });

  test('goes on fetching a path when its reader has gone', async () => {
    const cache = await CacheServer.start([library]);
    let release = () => {};
    const asked = new Promise<void>((resolve) => {
      cache.twists.set(narPath(library), (_, response) => {
        response.writeHead(200, { 'content-length': library.file.length });
        response.write(library.file.subarray(0, 100_000));
        release = () => response.end(library.file.subarray(100_000));
        resolve();
      });
    });
    const { dir } = await mount(['--store', cache.address, '--cache', join(tempDir(), 'cache')]);
    const reader = run('ls', [join(dir, nameOf(library))], { timeout: 1000 });
    await asked;
    expect((await reader).status).not.toBe(0);
    release();
    expect((await run('ls', [join(dir, nameOf(library))])).stdout).toBe('lib.so\n');
    expect(cache.asked('/nar/')).toBe(1);
  });

  test('fetches a path again when a part of it has gone from the cache', async () => {
    const cache = await CacheServer.start([library]);
    const cacheDir = join(tempDir(), 'cache');
    const args = ['--store', cache.address, '--cache', cacheDir];
    const first = await mount(args);
    const contents = await run('sha256sum', [join(first.dir, nameOf(library), 'lib.so')]);
    await first.stop();
    await evictContents(cacheDir);
    const second = await mount(args);
    const again = await run('sha256sum', [join(second.dir, nameOf(library), 'lib.so')]);
    expect(again.stdout.slice(0, 64)).toBe(contents.stdout.slice(0, 64));
    expect(cache.asked('/nar/')).toBe(2);
  });

  test('fails where a path that it would fetch again is another by now, and does not fetch it for every read', async () => {
    const cache = await CacheServer.start([library]);
    const cacheDir = join(tempDir(), 'cache');
    const args = ['--store', cache.address, '--cache', cacheDir];
    const first = await mount(args);
    await run('ls', [join(first.dir, nameOf(library))]);
    await first.stop();
    await evictContents(cacheDir);
    cache.add(testPath('library', { tree: directory({ 'lib.so': file('another') }) }));
    const second = await mount(args);
    for (let i = 0; i < 3; i++) {
      expect((await run('ls', [join(second.dir, nameOf(library))])).stderr).toContain('Input/output error');
    }
    expect(cache.asked('/nar/')).toBe(2);
    await second.stop();
    const third = await mount(args);
    expect(await cat(join(third.dir, nameOf(library), 'lib.so'))).toBe('another');
  });
});

/** Takes away what a cache may take away. */
async function evictContents(cacheDir: string): Promise<void> {
  const env = Environment.open(cacheDir);
  for (const table of [env.chunks, env.manifests, env.directories]) {
    for (const { key } of [...table.rows()]) table.removeSync(key);
  }
  await env.close();
}
