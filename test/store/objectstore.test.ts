import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ObjectStoreBlobService } from '../../src/castore/blob/object-store.ts';
import { Digest, EMPTY_DIGEST } from '../../src/castore/digest.ts';
import { ObjectStoreDirectoryService } from '../../src/castore/directory/object-store.ts';
import { FileObjectStore } from '../../src/castore/objects/file.ts';
import { MemoryObjectStore } from '../../src/castore/objects/memory.ts';
import { keyOf } from '../../src/castore/objects/object-store.ts';
import { tvix } from '../../src/proto/messages.ts';
import { storeOver } from '../../src/store/open/backends/objectstore.ts';
import { zstdCompress } from '../../src/util/compression/zstd.ts';
import { directoryOf, EMPTY } from '../contract/directories.ts';
import { objectServicesContract, objectStoreContract } from '../contract/objects.ts';
import { pathInfo } from '../contract/path-infos.ts';
import { CLI } from '../helpers/cli.ts';
import { describeFacts } from '../helpers/facts.ts';
import { RecordingObjects, storeAmong } from '../helpers/objects.ts';
import { counterBytes, randomBytes } from '../helpers/random.ts';
import { all, codeOf, readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

describe('objects in memory', () => {
  objectStoreContract(async () => new MemoryObjectStore());
  const shared = new MemoryObjectStore();
  objectServicesContract(async () => shared);
});

describe('objects in files', () => {
  objectStoreContract(() => FileObjectStore.open(tempDir(), true));
  const dir = join(tempDir(), 'new');
  objectServicesContract(() => FileObjectStore.open(dir, true));

  test('loses no update of several processes', async () => {
    const shared = tempDir();
    const objects = await FileObjectStore.open(shared, true);
    await objects.put('counted', Buffer.from('0'), 'absent');
    const script = join(shared, 'count.mjs');
    writeFileSync(
      script,
      `import { FileObjectStore } from ${JSON.stringify(join(CLI, '../../castore/objects/file.js'))};
       const objects = await FileObjectStore.open(process.argv[2], true);
       for (let i = 0; i < 25; ) {
         const { bytes, tag } = await objects.get('counted', 99);
         if (await objects.put('counted', Buffer.from(String(Number(Buffer.from(bytes)) + 1)), { tag })) i++;
       }`,
    );
    const counters = [1, 2, 3].map(() =>
      once(spawn(process.execPath, [script, shared], { stdio: 'inherit' }), 'close'),
    );
    expect((await Promise.all(counters)).map(([status]) => status)).toEqual([0, 0, 0]);
    expect(Buffer.from((await objects.get('counted', 99))!.bytes).toString()).toBe('75');
  });
});

/** Bytes as a zstd frame of a stream: it does not tell how many they are. */
function unsizedFrame(bytes: Uint8Array): Buffer {
  const parts: Buffer[] = [Buffer.from('28b52ffd0058', 'hex')];
  for (let at = 0; at < bytes.length || at === 0; at += 1 << 17) {
    const part = bytes.subarray(at, at + (1 << 17));
    const header = Buffer.alloc(3);
    header.writeUIntLE((part.length << 3) | (at + part.length >= bytes.length ? 1 : 0), 0, 3);
    parts.push(header, Buffer.from(part));
  }
  return Buffer.concat(parts);
}

describe('a bucket that the Rust implementation wrote', () => {
  const objects = new MemoryObjectStore();
  const write = (kind: 'chunks' | 'blobs' | 'dirs', digest: Digest, bytes: Uint8Array) =>
    objects.put(`${kind}/b3/${digest.hex.slice(0, 4)}/${digest.hex}`, bytes, 'absent');

  test('gives its small blobs, which have an empty list of chunks as well, and the empty one', async () => {
    const contents = randomBytes(200_000, 'rust, one chunk');
    const digest = Digest.hash(contents);
    await write('chunks', digest, unsizedFrame(contents));
    await write('blobs', digest, new Uint8Array());
    await write('blobs', EMPTY_DIGEST, new Uint8Array());
    const blobs = new ObjectStoreBlobService(objects);
    expect(await blobs.chunks(digest)).toEqual([]);
    expect((await readBlob({ blobs }, digest))?.equals(contents)).toBe(true);
    expect((await readBlob({ blobs }, digest, 199_990))?.equals(contents.subarray(199_990))).toBe(true);
    expect(await blobs.chunks(EMPTY_DIGEST)).toEqual([]);
    expect(await readBlob({ blobs }, EMPTY_DIGEST)).toEqual(Buffer.alloc(0));
  });

  test('gives its trees of directories', async () => {
    const leaf = directoryOf({ leaf: 'x' });
    const middle = directoryOf({ leaf, other: 'y' });
    const root = directoryOf({ middle, leaf, empty: EMPTY });
    const frames = [root, middle, leaf, EMPTY].flatMap(({ bytes }) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      return [length, bytes];
    });
    await write('dirs', root.digest, unsizedFrame(Buffer.concat(frames)));
    const store = await storeAmong(objects);
    expect((await store.directories.get(root.digest))?.digest.hex).toBe(root.digest.hex);
    expect((await store.directories.get(leaf.digest))?.digest.hex).toBe(leaf.digest.hex);
    await store.close();
  });
});

describeFacts('objectstore_layout', (facts) => {
  const { expected } = facts.find(({ name }) => name === 'stat_blob_response_4MiB') ?? { expected: {} };

  test('a blob of several chunks is written as the Rust implementation does, and read', async () => {
    const objects = new MemoryObjectStore();
    const blobs = new ObjectStoreBlobService(objects);
    const contents = counterBytes(4 << 20);
    const { digest } = await blobs.put(contents);
    const index = await objects.get(expected.object_key, 1 << 20);
    expect(Buffer.from(index!.bytes).toString('hex')).toBe(expected.proto_hex);
    const chunks = await all(objects.list('chunks/'));
    expect(chunks.length).toBe((await blobs.chunks(digest))!.length);
    expect((await readBlob({ blobs }, digest))?.equals(contents)).toBe(true);
  });
});

describe('a store among objects', () => {
  const opened = async () => {
    const inner = new MemoryObjectStore();
    const objects = new RecordingObjects(inner);
    const store = await storeAmong(objects);
    objects.requests.length = 0;
    return { inner, objects, store };
  };

  test('sends a small blob by one request once one was missing, and what it sent not again', async () => {
    const { objects, store } = await opened();
    const { digest } = await store.blobs.put(Buffer.from('the first'));
    const first = keyOf('chunks', digest);
    expect(objects.requests).toEqual(['get gc/state', `has ${first}`, `put ${first}`]);
    objects.requests.length = 0;
    const contents = [Buffer.from('one'), Buffer.from('two'), Buffer.from('one'), Buffer.alloc(0)];
    const stored = await Promise.all(contents.map((bytes) => store.blobs.put(bytes)));
    await store.blobs.put(contents[1]!);
    await store.blobs.put([]);
    const key = (i: number) => keyOf('chunks', stored[i]!.digest);
    expect(objects.requests.sort()).toEqual(
      [`put ${key(0)}`, `put ${key(1)}`, `put ${keyOf('blobs', EMPTY_DIGEST)}`].sort(),
    );
    await store.close();
  });

  test('names a large blob after all its chunks, of which it sends only those that are missing', async () => {
    const { inner, objects, store } = await opened();
    const contents = randomBytes(2 << 20, 'named last');
    const { digest } = await store.blobs.put(contents);
    expect(objects.requests.at(-1)).toBe(`put ${keyOf('blobs', digest)}`);
    objects.requests.length = 0;
    const again = await storeAmong(objects);
    const { digest: longer } = await again.blobs.put(Buffer.concat([contents, Buffer.alloc(300_000)]));
    expect(objects.requests.at(-1)).toBe(`put ${keyOf('blobs', longer)}`);
    const sent = objects.requests.filter((one) => one.startsWith('put chunks/'));
    expect(sent.length).toBeLessThan(4);
    expect((await readBlob({ blobs: new ObjectStoreBlobService(inner) }, longer))?.length).toBe(
      (2 << 20) + 300_000,
    );
    await Promise.all([store.close(), again.close()]);
  });

  test('reads a part of a large blob by the chunks that hold it', async () => {
    const { objects, store } = await opened();
    const contents = randomBytes(3 << 20, 'part');
    const { digest } = await store.blobs.put(contents);
    objects.requests.length = 0;
    const tail = await readBlob(store, digest, (3 << 20) - 1000);
    expect(tail?.equals(contents.subarray(-1000))).toBe(true);
    expect(objects.requests.filter((one) => one.startsWith('get chunks/')).length).toBeLessThan(4);
    await store.close();
  });

  test('says DATA_LOSS for bytes that are not what their name says', async () => {
    const { inner, store } = await opened();
    const overwrite = async (key: string, bytes: Uint8Array) => {
      const object = await inner.get(key, 1 << 24);
      await inner.put(key, bytes, object ? { tag: object.tag } : 'absent');
    };
    const small = await store.blobs.put(Buffer.from('small'));
    const large = await store.blobs.put(randomBytes(1 << 20, 'large'));
    const other = await store.blobs.put(randomBytes(1 << 20, 'other'));
    const directory = directoryOf({ a: 'b' });
    const info = await store.pathInfos.put(pathInfo('replaced'));
    const index = await inner.get(keyOf('blobs', other.digest), 1 << 20);
    for (const wrong of [
      zstdCompress(Buffer.from('large')),
      zstdCompress(Buffer.alloc(1 << 25)),
      Buffer.from('no zstd'),
    ]) {
      await overwrite(keyOf('chunks', small.digest), wrong);
      expect(await codeOf(store.blobs.read(small.digest, { size: 5 }))).toBe('DATA_LOSS');
      expect(await codeOf(store.blobs.read(small.digest))).toBe('DATA_LOSS');
      await overwrite(keyOf('dirs', directory.digest), wrong);
      expect(await codeOf(store.directories.get(directory.digest))).toBe('DATA_LOSS');
    }
    await overwrite(keyOf('blobs', large.digest), index!.bytes);
    expect(await codeOf(readBlob(store, large.digest))).toBe('DATA_LOSS');
    for (const wrong of [
      Buffer.from('garbage'),
      tvix.castore.v1.StatBlobResponse.encode({ chunks: [{ digest: Buffer.alloc(31), size: 1 }] }).finish(),
    ]) {
      await overwrite(keyOf('blobs', large.digest), wrong);
      expect(await codeOf(store.blobs.chunks(large.digest))).toBe('DATA_LOSS');
    }
    const key = `pathinfo/v1/${info.storePath.hashText}`;
    await overwrite(key, Buffer.from('garbage'));
    expect(await codeOf(store.pathInfos.get(info.storePath.hash))).toBe('DATA_LOSS');
    await store.close();
  });

  test('gives a tree by its root only, where no cache is before it', async () => {
    const directories = new ObjectStoreDirectoryService(new MemoryObjectStore());
    const leaf = directoryOf({ leaf: 'x' });
    const root = directoryOf({ leaf });
    const putter = directories.putMany();
    for (const directory of [leaf, root]) await putter.add(directory);
    await putter.close();
    expect((await all(directories.getRecursive(root.digest))).length).toBe(2);
    expect(await all(directories.getRecursive(leaf.digest))).toEqual([]);
    expect(await codeOf(directories.get(leaf.digest))).toBe('UNIMPLEMENTED');
    expect(await codeOf(directories.put(root))).toBe('UNIMPLEMENTED');
    await expect(directories.get(leaf.digest)).rejects.toThrow('a cache of directories before it');
  });

  test('of another format is refused with its number', async () => {
    const objects = new MemoryObjectStore();
    await objects.put('format', Buffer.from('2'), 'absent');
    await expect(storeAmong(objects)).rejects.toThrow('has format "2", this program knows 1');
  });

  test('serves trees though its cache of directories cannot be had', async () => {
    const objects = new MemoryObjectStore();
    const store = await storeOver(objects, {
      cache: () => {
        throw new Error('the disk is full');
      },
    });
    const leaf = directoryOf({ leaf: 'x' });
    const putter = store.directories.putMany();
    await putter.add(leaf);
    await putter.add(directoryOf({ leaf }));
    const root = await putter.close();
    expect((await all(store.directories.getRecursive(root))).length).toBe(2);
    await store.close();
  });
});
