import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import { FileObjectStore } from '../../src/castore/objects/file.ts';
import type { ObjectStore } from '../../src/castore/objects/object-store.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import { PATH_INFO_PREFIX } from '../../src/store/path-info/object-store.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { CLI, run, tvixStore } from '../helpers/cli.ts';
import { openAt, startDaemon } from '../helpers/daemon.ts';
import { randomBytes } from '../helpers/random.ts';
import { chunkFiles } from '../helpers/rot.ts';
import { S3Server } from '../helpers/s3.ts';
import { chunk } from '../helpers/scripted-blobs.ts';
import { scriptedServer } from '../helpers/scripted-server.ts';
import { all, localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

const ONE = randomBytes(1_500_000, 'right one');
const OTHER = randomBytes(1_500_000, 'right other');
const tree = join(tempDir(), 'tree');
writeTree(tree, directory({ one: file(ONE), other: file(OTHER), small: file('small') }));

async function importInto(store: string): Promise<string> {
  const { status, stdout, stderr } = await tvixStore(['import', '--store', store, tree]);
  expect(status, stderr).toBe(0);
  return stdout.trim();
}

/** Reads a path back whole, with caches of its own. */
async function isRight(store: string, path: string): Promise<void> {
  for (const [name, bytes] of [
    ['one', ONE],
    ['other', OTHER],
    ['small', Buffer.from('small')],
  ] as const) {
    const cache = join(tempDir(), 'cache');
    const read = await printed('cat', '--store', store, '--cache', cache, `${path}/${name}`);
    expect(read, name).toBe(Digest.hash(bytes).hex);
  }
}

/** Has each of two blobs of a local store say that it is the other. */
async function swapLists(dir: string): Promise<void> {
  const local = LocalStore.open(dir, 'store');
  const { manifests } = local.env;
  const keys = [ONE, OTHER].map((bytes) => Digest.hash(bytes).bytes);
  const rows = keys.map((key) => Uint8Array.from(manifests.get(key)!));
  await manifests.put(keys[0]!, rows[1]!);
  await manifests.put(keys[1]!, rows[0]!);
  await local.close();
}

/** What a command that reads a file prints, or `error` if it ended with 1. */
async function printed(...args: string[]): Promise<string | 'error'> {
  const file = join(tempDir(), 'out');
  const { status, stderr } = await run('sh', ['-c', '"$@" >"$0"', file, process.execPath, CLI, ...args]);
  if (status === 0) return Digest.hash(readFileSync(file)).hex;
  expect({ status, stderr }).toMatchObject({ status: 1, stderr: expect.stringMatching(/^error: /m) });
  return 'error';
}

describe('two chunk lists that are swapped', () => {
  test('are found out, and healed by importing or copying again', async () => {
    const dir = join(tempDir(), 'store');
    const store = `local://${dir}`;
    const path = await importInto(store);
    await swapLists(dir);
    expect(await printed('cat', '--store', store, `${path}/one`)).toBe('error');
    expect(await printed('nar', 'dump', '--store', store, path)).toBe('error');
    expect((await tvixStore(['fsck', '--store', store])).status).toBe(1);
    await importInto(store);
    expect(await printed('cat', '--store', store, `${path}/one`)).toBe(Digest.hash(ONE).hex);
    // The other, too, which nobody has read.
    expect(await printed('cat', '--store', store, `${path}/other`)).toBe(Digest.hash(OTHER).hex);
    expect((await tvixStore(['fsck', '--store', store])).status).toBe(0);
  });

  test.each(['combined', 'cache'])('near give an error at most, and then what far has (%s)', async (kind) => {
    const [near, far] = [join(tempDir(), 'near'), join(tempDir(), 'far')];
    const path = await importInto(`local://${far}`);
    await importInto(`local://${near}`);
    await swapLists(near);
    const daemon = await startDaemon(`local://${near}`);
    // One that checks at the end of its stream, and one that is read here.
    for (const at of [daemon.url, `local://${near}`]) {
      const store = `${kind}://?near=${at}&far=local://${far}`;
      for (const [name, bytes] of [
        ['one', ONE],
        ['other', OTHER],
      ] as const) {
        const first = await printed('cat', '--store', store, `${path}/${name}`);
        expect(['error', Digest.hash(bytes).hex]).toContain(first);
        expect(await printed('cat', '--store', store, `${path}/${name}`)).toBe(Digest.hash(bytes).hex);
      }
    }
    await daemon.stop();
  });
});

test('a combined store lists and has only what is in it, with all its contents', async () => {
  const [near, far, from] = ['near', 'far', 'from'].map((name) => join(tempDir(), name));
  const path = await importInto(`local://${far}`);
  await importInto(`local://${from}`);
  const store = `combined://?near=local://${near}&far=local://${far}`;
  expect(await printed('cat', '--store', store, `${path}/small`)).toBe(Digest.hash(Buffer.from('small')).hex);
  expect(await tvixStore(['ls', '--store', `local://${near}`])).toMatchObject({ status: 0, stdout: '' });
  expect((await tvixStore(['fsck', '--store', `local://${near}`])).status).toBe(0);
  const args = ['copy', '--from', `local://${from}`, '--to', store, path];
  expect(await tvixStore(args)).toMatchObject({ status: 0, stdout: `${path}\n` });
  rmSync(far!, { recursive: true });
  expect(await printed('cat', '--store', `local://${near}`, `${path}/one`)).toBe(Digest.hash(ONE).hex);
});

test('a store that a cache fills gets no path info of what it has not', async () => {
  const [near, far] = [join(tempDir(), 'near'), join(tempDir(), 'far')];
  const path = await importInto(`local://${far}`);
  await localStore(near).close();
  const store = `cache://?near=local://${near}&far=local://${far}`;
  expect(await printed('cat', '--store', store, `${path}/small`)).toBe(Digest.hash(Buffer.from('small')).hex);
  expect(await tvixStore(['ls', '--store', `local://${near}`])).toMatchObject({ status: 0, stdout: '' });
});

const s3 = S3Server.start();
const noS3 = s3 instanceof S3Server ? '' : ` (${s3.missing})`;

describe('what is damaged is replaced when it is brought again', () => {
  const damage: Record<string, (bytes: Uint8Array) => Uint8Array> = {
    'other bytes of the same length': (bytes) => Buffer.alloc(bytes.length, 7),
    'cut bytes': (bytes) => bytes.subarray(0, 20),
    'no bytes': () => Buffer.alloc(0),
  };
  const damaging = async (objects: ObjectStore, change: (bytes: Uint8Array) => Uint8Array) => {
    for (const prefix of ['chunks/', 'blobs/', 'dirs/', PATH_INFO_PREFIX]) {
      for (const { key } of await all(objects.list(prefix))) {
        const { bytes } = (await objects.get(key, 1 << 30))!;
        await objects.put(key, change(bytes), 'always');
      }
    }
    await objects.close();
  };

  test.each(Object.keys(damage))('in a directory of objects: %s', async (kind) => {
    const dir = join(tempDir(), 'bucket');
    const store = `objectstore+file://${dir}`;
    const path = await importInto(store);
    await damaging(await FileObjectStore.open(dir, false), damage[kind]!);
    expect(await printed('cat', '--store', store, `${path}/one`)).toBe('error');
    await importInto(store);
    await isRight(store, path);
    expect((await tvixStore(['fsck', '--store', store])).status).toBe(0);
  });

  test.skipIf(noS3 !== '').each(Object.keys(damage))(`in a bucket${noS3}: %s`, async (kind) => {
    const store = (s3 as S3Server).address();
    const path = await importInto(store);
    await damaging(await (s3 as S3Server).objects(store), damage[kind]!);
    await importInto(store);
    await isRight(store, path);
    expect((await tvixStore(['fsck', '--store', store])).status).toBe(0);
  });

  test.each(['copy', 'import'])('by a daemon whose store has lost contents: %s', async (command) => {
    const [from, dir] = [join(tempDir(), 'from'), join(tempDir(), 'store')];
    const path = await importInto(`local://${from}`);
    await importInto(`local://${dir}`);
    for (const path of chunkFiles(dir)) rmSync(path);
    const daemon = await startDaemon(`local://${dir}`);
    if (command === 'import') expect(await importInto(daemon.url)).toBe(path);
    else {
      const copied = await tvixStore(['copy', '--from', `local://${from}`, '--to', daemon.url, path]);
      expect(copied).toMatchObject({ status: 0, stdout: `${path}\n` });
    }
    await isRight(daemon.url, path);
    await daemon.stop();
  });
});

describe('signatures', () => {
  const signed = (info: PathInfo, name: string): PathInfo => ({
    ...info,
    signatures: [{ name, data: randomBytes(64, name) }],
  });
  const namesAt = async (address: string, hash: Uint8Array) => {
    const store = await openAt(address);
    const info = await store.pathInfos.get(hash);
    await store.close();
    return info!.signatures.map(({ name }) => name).sort();
  };

  test.each(['local', 'daemon', 'bucket', 'cache', 'combined'])(
    'are united by puts into a %s',
    async (kind) => {
      const [dir, near] = [join(tempDir(), 'store'), join(tempDir(), 'near')];
      const path = await importInto(kind === 'bucket' ? `objectstore+file://${dir}` : `local://${dir}`);
      const daemon = await startDaemon(kind === 'bucket' ? `objectstore+file://${dir}` : `local://${dir}`);
      const address = {
        local: `local://${dir}`,
        daemon: daemon.url,
        bucket: `objectstore+file://${dir}`,
        cache: `cache://?near=local://${near}&far=${daemon.url}`,
        combined: `combined://?near=local://${near}&far=${daemon.url}`,
      }[kind]!;
      const store = await openAt(daemon.url);
      const other = await openAt(address);
      const info = (await store.pathInfos.get(hashOf(path)))!;
      if (kind === 'combined')
        await tvixStore(['copy', '--from', daemon.url, '--to', `local://${near}`, path]);
      await store.pathInfos.put(signed(info, 'a-1'));
      // At the same time, by two processes.
      await Promise.all(
        ['b-1', 'c-1', 'd-1', 'e-1'].map((name, i) =>
          (i % 2 === 0 || kind === 'combined' ? other : store).pathInfos.put(signed(info, name)),
        ),
      );
      await other.pathInfos.put(info);
      const names = ['a-1', 'b-1', 'c-1', 'd-1', 'e-1'];
      const stored = await other.pathInfos.put(signed(info, 'a-1'));
      expect(stored.signatures.map(({ name }) => name).sort()).toEqual(names);
      await other.close();
      await store.close();
      expect(await namesAt(address, info.storePath.hash)).toEqual(names);
      await daemon.stop();
    },
  );
});

function hashOf(path: string): Uint8Array {
  return StorePath.parseAbsolute(path).hash;
}

test('a peer that streams on after the size of a file is cut off, and near is not filled with it', async () => {
  let sent = 0;
  const part = randomBytes(1 << 20, 'endless');
  const peer = await scriptedServer({
    'BlobService/Read': () => {
      const messages: Uint8Array[] = [];
      for (let i = 0; i < 64; i++) messages.push(chunk(part));
      sent += messages.length;
      return messages;
    },
    'BlobService/Stat': () => [Buffer.alloc(0)],
  });
  for (const kind of ['cache', 'combined']) {
    const near = join(tempDir(), 'near');
    const store = await openAt(`${kind}://?near=local://${near}&far=${peer.url}`);
    const contents = await store.blobs.read(Digest.hash(ONE), { size: ONE.length });
    let got = 0;
    const reading = (async () => {
      for await (const bytes of contents!) got += bytes.length;
    })();
    await expect(reading).rejects.toThrow(/size (than )?1500000/);
    expect(got).toBeLessThanOrEqual(ONE.length);
    await store.close();
    const kept = chunkFiles(near).reduce((sum, path) => sum + readFileSync(path).length, 0);
    expect(kept).toBeLessThanOrEqual(ONE.length);
  }
  expect(sent).toBeGreaterThan(0);
  peer.close();
});
