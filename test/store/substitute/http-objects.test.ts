import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { FileObjectStore } from '../../../src/castore/objects/file.ts';
import type { ObjectStore } from '../../../src/castore/objects/object-store.ts';
import { HttpCacheFiles } from '../../../src/store/substitute/http-files.ts';
import { HttpObjectStore } from '../../../src/store/substitute/http-objects.ts';
import { zstdDecompress } from '../../../src/util/compression/zstd.ts';
import { objectServicesContract, objectStoreContract } from '../../contract/objects.ts';
import { tvixStore } from '../../helpers/cli.ts';
import { startDaemon, startNarBridge } from '../../helpers/daemon.ts';
import { mount } from '../../helpers/mount.ts';
import { randomBytes } from '../../helpers/random.ts';
import { tempDir } from '../../helpers/temp.ts';
import { directory, file, generateTree, writeTree } from '../../helpers/trees.ts';
import { servedByPython } from '../../helpers/web-server.ts';

const overWeb = (url: string) => new HttpObjectStore(new HttpCacheFiles(new URL(url)));

/** Objects that are written to a folder, and read through the web server before it. */
async function behindWeb(dir: string): Promise<ObjectStore> {
  const files = await FileObjectStore.open(dir, true);
  const web = overWeb(`http://${await servedByPython(dir)}/`);
  return {
    address: web.address,
    isFar: false,
    get: web.get.bind(web),
    facts: web.facts.bind(web),
    put: files.put.bind(files),
    list: files.list.bind(files),
    remove: files.remove.bind(files),
    close: () => web.close(),
  };
}

describe('objects on a web server', () => {
  objectStoreContract(() => behindWeb(tempDir()));
  const dir = tempDir();
  objectServicesContract(() => behindWeb(dir));
});

describe('a bucket on a web server', () => {
  const dir = tempDir();
  const bucket = join(dir, 'bucket');
  const tree = join(dir, 'tree');
  const cache = () => ['--cache', join(tempDir(), 'cache')];
  let store: string;
  let path: string;
  beforeAll(async () => {
    mkdirSync(tree);
    writeTree(join(tree, 'small'), generateTree(80, 5));
    writeTree(join(tree, 'large'), file(randomBytes(3_000_000, 'large')));
    const imported = await tvixStore(['import', '--store', `objectstore+file://${bucket}`, tree]);
    path = imported.stdout.trim();
    store = `objectstore+http://${await servedByPython(bucket)}/`;
  });

  test('is mounted, and copied from', async () => {
    const { dir: mnt, stop } = await mount(['--store', store, ...cache()]);
    const diff = spawnSync('diff', [
      '-r',
      '--no-dereference',
      tree,
      join(mnt, path.slice('/nix/store/'.length)),
    ]);
    expect(String(diff.stdout)).toBe('');
    expect((await stop()).status).toBe(0);
    const to = `local://${tempDir()}/store`;
    expect(await tvixStore(['copy', '--from', store, '--to', to, ...cache(), path])).toMatchObject({
      status: 0,
    });
    expect(await tvixStore(['verify', '--store', to, path])).toMatchObject({ status: 0 });
  });

  test('does not have what nobody put', async () => {
    const { status, stderr } = await tvixStore([
      'ls',
      '--store',
      store,
      ...cache(),
      `/nix/store/${'0'.repeat(32)}-tree`,
    ]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/not (found|there|in)/);
  });

  test.each([
    ['listed', ['ls']],
    ['put', ['import', tree]],
    ['removed', ['gc']],
  ])('has nothing %s, and says what can', async (what, [command, ...args]) => {
    const { status, stderr } = await tvixStore([command!, '--store', store, ...cache(), ...args]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/nothing can be (listed|put|removed) over plain HTTP; name the bucket itself/);
    expect(stderr, what).not.toContain('    at ');
  });

  test('is believed in nothing', async () => {
    const rotten = join(tempDir(), 'rotten');
    const objects = `objectstore+file://${rotten}`;
    writeTree(join(dir, 'one'), directory({ one: file(randomBytes(5000, 'one')) }));
    const { stdout } = await tvixStore(['import', '--store', objects, join(dir, 'one')]);
    const chunks = join(rotten, 'chunks/b3');
    for (const name of readdirSync(chunks, { recursive: true, withFileTypes: true })) {
      if (!name.isFile()) continue;
      const at = join(name.parentPath, name.name);
      const bytes = readFileSync(at);
      bytes[bytes.length >> 1]! ^= 1;
      writeFileSync(at, bytes, { mode: 0o644 });
    }
    const web = `objectstore+http://${await servedByPython(rotten)}`;
    const cat = await tvixStore(['cat', '--store', web, ...cache(), `${stdout.trim()}/one`]);
    expect(cat.status).toBe(1);
    expect(cat.stderr).toContain('holds something else');
  });
});

describe.each([
  ['nar-bridge', startNarBridge],
  ['daemon', startDaemon],
])('a %s, which serves any store as a bucket', (_, startServer) => {
  test('is mounted, copied from, and believed by its signatures', async () => {
    const dir = tempDir();
    writeTree(
      join(dir, 'tree'),
      directory({ large: file(randomBytes(3_000_000, 'bridge')), empty: file('') }),
    );
    writeTree(join(dir, 'tree/small'), generateTree(40, 6));
    const store = `local://${dir}/store`;
    const imported = await tvixStore(['import', '--store', store, join(dir, 'tree')]);
    const path = imported.stdout.trim();
    const key = await tvixStore(['key', 'generate', 'test-1', '--file', join(dir, 'key')]);
    const signed = await tvixStore(['sign', '--store', store, '--key-file', join(dir, 'key'), path]);
    expect(signed).toMatchObject({ status: 0 });
    const bridge = await startServer(store);
    const web = `objectstore+http://127.0.0.1:${bridge.port}`;
    const { dir: mnt, stop } = await mount([
      ...['--store', web, '--cache', join(dir, 'cache')],
      ...['--trusted-public-keys', key.stdout.trim()],
    ]);
    const diff = spawnSync('diff', [
      '-r',
      '--no-dereference',
      join(dir, 'tree'),
      join(mnt, path.slice('/nix/store/'.length)),
    ]);
    expect([diff.status, `${diff.stdout}${diff.stderr}`]).toEqual([0, '']);
    expect((await stop()).status).toBe(0);
    const to = `local://${dir}/to`;
    const copied = await tvixStore([
      'copy',
      '--from',
      web,
      '--to',
      to,
      '--cache',
      join(dir, 'another'),
      path,
    ]);
    expect(copied).toMatchObject({ status: 0 });
    expect(await tvixStore(['verify', '--store', to, path])).toMatchObject({ status: 0 });
    await bridge.stop();
  });

  test('has what the bucket has under the same keys', async () => {
    const dir = tempDir();
    const tree = directory({
      large: file(randomBytes(3_000_000, 'keys')),
      empty: file(''),
      small: file('small'),
    });
    writeTree(join(dir, 'tree'), tree);
    const bucket = join(dir, 'bucket');
    for (const store of [`objectstore+file://${bucket}`, `local://${dir}/store`])
      expect(await tvixStore(['import', '--outboards', '--store', store, join(dir, 'tree')])).toMatchObject({
        status: 0,
      });
    const bridge = await startServer(`local://${dir}/store`);
    const objects = overWeb(`http://127.0.0.1:${bridge.port}/`);
    const keys = readdirSync(bucket, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.parentPath.includes('.tvix-store-'))
      .map((entry) => join(entry.parentPath, entry.name).slice(bucket.length + 1));
    expect(new Set(keys.map((key) => key.split('/')[0]))).toEqual(
      new Set(['format', 'pathinfo', 'dirs', 'blobs', 'chunks', 'bao']),
    );
    for (const key of keys) {
      const mine = readFileSync(join(bucket, key));
      const theirs = (await objects.get(key, 1 << 24))!;
      const [a, b] = [mine, Buffer.from(theirs.bytes)].map((bytes) =>
        /^(chunks|dirs)/.test(key) ? Buffer.from(zstdDecompress(bytes, 1 << 24)) : bytes,
      );
      expect(a!.equals(b!), key).toBe(true);
    }
    for (const kind of ['chunks', 'dirs', 'blobs', 'bao']) {
      expect(await objects.get(`${kind}/b3/0000/${'0'.repeat(64)}`, 99)).toBeUndefined();
      expect(await objects.get(`${kind}/b3/0000/${'1'.repeat(64)}`, 99)).toBeUndefined();
    }
    await objects.close();
    await bridge.stop();
  });
});
