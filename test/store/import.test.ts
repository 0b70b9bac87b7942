import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { BlobContent } from '../../src/castore/blob/service.ts';
import { Directory } from '../../src/castore/directory.ts';
import { importPath } from '../../src/castore/import/file-system.ts';
import type { Name } from '../../src/castore/node.ts';
import { nodeFromMessage } from '../../src/castore/node-message.ts';
import { encodeBase32 } from '../../src/nix/base32.ts';
import { Sha256Sink } from '../../src/nix/nar/writer.ts';
import { tvix } from '../../src/proto/messages.ts';
import { importStorePath } from '../../src/store/moving/import.ts';
import { calculateNar } from '../../src/store/nar/calculate.ts';
import { ingestNar } from '../../src/store/nar/ingest.ts';
import { toHex } from '../../src/util/bytes.ts';
import { describeFacts } from '../helpers/facts.ts';
import { randomBytes } from '../helpers/random.ts';
import { all, BufferSink, checkComplete, codeOf, memoryStore, renderNar } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, generateTree, parseTree, symlink, writeTree } from '../helpers/trees.ts';

describeFacts('import_path', (known) => {
  test.each(known.filter(({ expected }) => expected.nar_sha256_hex))('$name', async ({ input, expected }) => {
    const path = join(tempDir(), input.basename);
    writeTree(path, parseTree(input.tree));
    const store = memoryStore();
    const info = await importStorePath(store, Buffer.from(path), input.basename);
    expect(info.storePath.absolute()).toBe(expected.store_path);
    expect(toHex(info.narSha256)).toBe(expected.nar_sha256_hex);
    expect(info.narSize).toBe(BigInt(expected.nar_size));
    expect(`${info.ca?.type}:${encodeBase32(info.ca!.digest)}`).toBe(expected.ca);
    expect(info.references).toEqual(expected.references);
    await checkComplete(store, info);
  });

  test('fail_name_with_space', async () => {
    const path = join(tempDir(), 'te st');
    writeTree(path, file('x'));
    const store = memoryStore();
    expect(await codeOf(importStorePath(store, Buffer.from(path), 'te st'))).toBe('INVALID_ARGUMENT');
    expect(await all(store.pathInfos.list())).toEqual([]);
  });
});

describeFacts('nar', (known) => {
  test.each(known)('rendered from an import of $name', async ({ input, expected }) => {
    const path = join(tempDir(), 'tree');
    writeTree(path, parseTree(input.tree));
    const store = memoryStore();
    const nar = new BufferSink();
    await renderNar(store, await importPath(Buffer.from(path), store), nar);
    expect(toHex(nar.bytes())).toBe(expected.nar_hex);
  });
});

describeFacts('castore_directory', (known) => {
  test('DIRECTORY_COMPLICATED is what the import of its tree gives', async () => {
    const path = join(tempDir(), 'complicated');
    const keep = file();
    writeTree(
      path,
      directory({
        keep: directory({ '.keep': keep }),
        '.keep': keep,
        aa: symlink('/nix/store/somewhereelse'),
      }),
    );
    const store = memoryStore();
    const node = await importPath(Buffer.from(path), store);
    const { expected } = known.find(({ name }) => name === 'DIRECTORY_COMPLICATED')!;
    const { blake3_hex, size_as_seen_by_parent } = expected.rust_2024_2025_size_quirk;
    expect(node.kind === 'directory' && node.digest.hex).toBe(blake3_hex);
    expect(node.kind === 'directory' && node.size).toBe(BigInt(size_as_seen_by_parent));
  });
});

describeFacts('grpc_calculate_nar', (known) => {
  test.each(known)('$name', async ({ input, expected }) => {
    const store = memoryStore();
    await store.blobs.put(Buffer.from('Hello World!'));
    const { node } = nodeFromMessage(tvix.castore.v1.Node.decode(Buffer.from(input.node_proto_hex, 'hex')));
    const sink = new Sha256Sink();
    expect(await renderNar(store, node, sink)).toBe(expected.nar_size);
    expect(toHex(sink.digest())).toBe(expected.nar_sha256_hex);
  });
});

describe('importing a tree', () => {
  test('counts its entries and bytes', async () => {
    const path = join(tempDir(), 'counted');
    writeTree(path, directory({ a: file('12345'), b: directory({ c: file('67') }), d: symlink('a') }));
    const progress = { entries: 0, bytes: 0 };
    await importPath(Buffer.from(path), memoryStore(), { progress });
    expect(progress).toEqual({ entries: 5, bytes: 7 });
  });

  test('has many files of some chunks on their way at once', async () => {
    const path = join(tempDir(), 'waiting');
    const names = Array.from({ length: 30 }, (_, i) => `file-${i}`);
    writeTree(
      path,
      directory(Object.fromEntries(names.map((name) => [name, file(randomBytes(200_000, name))]))),
    );
    const store = memoryStore();
    const everybody = Promise.withResolvers<void>();
    let waiting = 0;
    const put = async (content: BlobContent) => {
      if (++waiting === names.length) everybody.resolve();
      await everybody.promise;
      return store.blobs.put(content);
    };
    const node = await importPath(Buffer.from(path), { ...store, blobs: { ...bound(store.blobs), put } });
    expect(await renderNar(store, node, new Sha256Sink())).toBeGreaterThan(30 * 200_000);
  });

  test('stops when it is told to', async () => {
    const path = join(tempDir(), 'stopped');
    writeTree(path, generateTree(50, 1));
    const stop = new AbortController();
    let seen = 0;
    const imported = importPath(Buffer.from(path), memoryStore(), {
      signal: stop.signal,
      onProgress: () => {
        if (++seen === 20) stop.abort(new Error('told to stop'));
      },
    });
    await expect(imported).rejects.toThrow('told to stop');
  });

  test('fails, and registers nothing, when something cannot be stored', async () => {
    const path = join(tempDir(), 'failing');
    writeTree(path, generateTree(300, 2));
    const store = memoryStore();
    let left = 100;
    const blobs = {
      ...bound(store.blobs),
      put: async (content: Parameters<typeof store.blobs.put>[0]) => {
        if (left-- === 0) throw new Error('the store broke');
        return store.blobs.put(content);
      },
    };
    const imported = importStorePath({ ...store, blobs }, Buffer.from(path), 'failing');
    await expect(imported).rejects.toThrow('the store broke');
    expect(await all(store.pathInfos.list())).toEqual([]);
  });
});

function bound(blobs: ReturnType<typeof memoryStore>['blobs']) {
  return {
    chunks: blobs.chunks.bind(blobs),
    has: blobs.has.bind(blobs),
    read: blobs.read.bind(blobs),
    flush: blobs.flush.bind(blobs),
  };
}

describe('a tree of many directories in each other', () => {
  const given = (depth: number) => {
    const path = join(tempDir(), 'tree');
    mkdirSync(`${path}${'/d'.repeat(depth - 1)}`, { recursive: true });
    return Buffer.from(path);
  };

  test('is taken as far as its NAR can be read', async () => {
    const store = memoryStore();
    const info = await importStorePath(store, given(1024), 'tree');
    const nar = new BufferSink();
    await renderNar(store, info.node, nar);
    expect((await ingestNar([nar.bytes()], memoryStore())).narSha256).toEqual(info.narSha256);
    await expect(importStorePath(store, given(1025), 'tree')).rejects.toThrow('more than 1024 directories');
    expect(await all(store.pathInfos.list())).toHaveLength(1);
  });

  test('that came by another way has no NAR', async () => {
    const store = memoryStore();
    let directory = Directory.of([]);
    for (let i = 0; i < 1025; i++) {
      await store.directories.put(directory);
      const node = { kind: 'directory', digest: directory.digest, size: directory.size } as const;
      directory = Directory.of([[Buffer.from('d') as unknown as Name, node]]);
    }
    await store.directories.put(directory);
    const root = { kind: 'directory', digest: directory.digest, size: directory.size } as const;
    expect(await codeOf(calculateNar(store, root))).toBe('DATA_LOSS');
  });
});
