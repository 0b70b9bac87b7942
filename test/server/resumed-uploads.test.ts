import { beforeAll, describe, expect, test } from 'vitest';
import { chunked } from '../../src/castore/blob/chunker.ts';
import { Digest } from '../../src/castore/digest.ts';
import type { Channel } from '../../src/proto/grpc/channel.ts';
import { dial } from '../../src/proto/grpc/dial.ts';
import { BLAKE3, CAS } from '../../src/proto/grpc/methods.ts';
import { tvix } from '../../src/proto/messages.ts';
import type { Store } from '../../src/store/services.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { openAt, startDaemon } from '../helpers/daemon.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { scriptedServer } from '../helpers/scripted-server.ts';
import { codeOf, readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const PART = 64 << 10;
const LENGTH = 6_000_000;
/** What is sent beside the contents, and of a chunk that was cut. */
const SLACK = 700_000;

async function* parts(contents: Buffer, before: (at: number) => Promise<void> = async () => {}) {
  for (let at = 0; at < contents.length; at += PART) {
    await before(at);
    yield contents.subarray(at, at + PART);
  }
}

async function using<T>(address: string, work: (store: Store) => Promise<T>): Promise<T> {
  const store = await openAt(address);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

describe('an upload that was cut', () => {
  let daemon: TestDaemon;
  let proxy: TcpProxy;
  beforeAll(async () => {
    daemon = await startDaemon(`local://${tempDir()}/store`);
    proxy = await TcpProxy.start(daemon.port);
  });

  /** Puts contents, and breaks off when most of them have gone over the line. */
  async function cut(store: Store, contents: Buffer, size?: number): Promise<void> {
    const begun = proxy.up;
    const failed = store.blobs.put(
      parts(contents, async (at) => {
        if (at < 5_000_000) return;
        await expect.poll(() => proxy.up - begun, { timeout: 20_000 }).toBeGreaterThan(4_000_000);
        throw new Error('cut');
      }),
      size === undefined ? {} : { size },
    );
    await expect(failed).rejects.toThrow('cut');
    // The daemon may still be at work on what it got.
    await expect.poll(() => kept(contents), { timeout: 20_000 }).toBeGreaterThan(3_000_000);
  }

  /** How much of some contents the daemon has. */
  async function kept(contents: Buffer): Promise<number> {
    return using(daemon.url, async ({ blobs }) => {
      let sum = 0;
      for await (const bytes of chunked([contents]))
        if (await blobs.has(Digest.hash(bytes), { size: bytes.length })) sum += bytes.length;
      return sum;
    });
  }

  /** The bytes that are sent to put contents, which can be read then. */
  async function sentFor(contents: Buffer): Promise<number> {
    const { up } = await proxy.count(() =>
      using(proxy.url, (store) => store.blobs.put(parts(contents), { size: contents.length })),
    );
    const read = await using(daemon.url, (store) => readBlob(store, Digest.hash(contents)));
    expect(read?.equals(contents)).toBe(true);
    return up;
  }

  test('over a line of which nothing is known goes on where it ended', async () => {
    const contents = randomBytes(LENGTH, 'unknown line');
    proxy.rate = 8e6;
    proxy.holds = 64 << 10;
    await using(proxy.url, (store) => cut(store, contents));
    proxy.rate = Number.POSITIVE_INFINITY;
    expect(await sentFor(contents)).toBeLessThan(LENGTH - 3_000_000 + SLACK);
    expect(await sentFor(contents)).toBeLessThan(100_000);
  });

  test('over a fast line, as one stream, goes on where it ended', async () => {
    const contents = randomBytes(LENGTH, 'fast line');
    await using(proxy.url, async (store) => {
      await store.blobs.put(parts(randomBytes(20 << 20, 'before')), { size: 20 << 20 });
      await cut(store, contents, LENGTH);
    });
    expect(await sentFor(contents)).toBeLessThan(LENGTH - 3_000_000 + SLACK);
  });

  test('over a fast line, by a connection that breaks, goes on in the same run', async () => {
    const contents = randomBytes(LENGTH, 'breaking');
    await using(proxy.url, async (store) => {
      await store.blobs.put(parts(randomBytes(20 << 20, 'before breaking')), { size: 20 << 20 });
      const begun = proxy.up;
      const breaking = parts(contents, async (at) => {
        if (at < 5_000_000 || at >= 5_000_000 + PART) return;
        await expect.poll(() => kept(contents), { timeout: 20_000 }).toBeGreaterThan(3_000_000);
        proxy.reset();
      });
      const again = () => parts(contents);
      const { digest } = await store.blobs.put(breaking, { size: LENGTH, again });
      expect(digest.equals(Digest.hash(contents))).toBe(true);
      expect(proxy.up - begun).toBeLessThan(2 * LENGTH - 3_000_000 + SLACK);
    });
    expect(await sentFor(contents)).toBeLessThan(100_000);
  });

  test('with another beginning, or end, sends what is not there', async () => {
    const before = randomBytes(LENGTH, 'edited');
    await sentFor(before);
    const edited = Buffer.concat([
      before.subarray(0, 3_000_000),
      Buffer.from('more'),
      before.subarray(3_000_000),
    ]);
    expect(await sentFor(edited)).toBeLessThan(1_500_000);
    expect(await sentFor(Buffer.concat([before, randomBytes(1000, 'end')]))).toBeLessThan(1_500_000);
  });

  test('small blobs that are there are not sent, and all are asked for in few calls', async () => {
    const blobs = Array.from({ length: 200 }, (_, i) => randomBytes(10_000, `small ${i}`));
    const put = () =>
      proxy.count(() => using(proxy.url, (store) => Promise.all(blobs.map((blob) => store.blobs.put(blob)))));
    expect((await put()).up).toBeGreaterThan(2_000_000);
    expect((await put()).up).toBeLessThan(40_000);
  });
});

describe('making a blob of others', () => {
  let daemon: TestDaemon;
  let channel: Channel;
  const [one, other] = [randomBytes(200_000, 'one'), randomBytes(300_000, 'other')];
  const named = (bytes: Buffer) => ({ hash: Digest.hash(bytes).hex, sizeBytes: bytes.length });
  const splice = (blob: Buffer, chunks: readonly Buffer[], digestFunction = BLAKE3) =>
    channel.unary(CAS.splice, {
      blobDigest: named(blob),
      chunkDigests: chunks.map(named),
      digestFunction,
    });

  beforeAll(async () => {
    daemon = await startDaemon(`local://${tempDir()}/store`);
    channel = await dial(new URL(daemon.url));
    await using(daemon.url, (store) => Promise.all([one, other].map((bytes) => store.blobs.put(bytes))));
  });

  test('gives what they make', async () => {
    const whole = Buffer.concat([one, other, one]);
    await splice(whole, [one, other, one]);
    const read = await using(daemon.url, (store) => readBlob(store, Digest.hash(whole)));
    expect(read?.equals(whole)).toBe(true);
  });

  test('is refused when they make another, or are not there', async () => {
    const whole = Buffer.concat([one, other]);
    expect(await codeOf(splice(whole, [other, one]))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(splice(whole, [one, randomBytes(10, 'absent')]))).toBe('NOT_FOUND');
    expect(await codeOf(splice(whole, [one, other], 0 as typeof BLAKE3))).toBe('INVALID_ARGUMENT');
    expect(await using(daemon.url, (store) => store.blobs.chunks(Digest.hash(whole)))).toBeUndefined();
  });

  test('too much is not asked for at once', async () => {
    const blobDigests = Array.from({ length: 20_000 }, () => named(one));
    const asked = channel.unary(CAS.findMissing, { blobDigests, digestFunction: BLAKE3 });
    expect(await codeOf(asked)).toBe('INVALID_ARGUMENT');
  });

  test('is an upload: who may not do that is refused', async () => {
    const open = await startDaemon(`local://${tempDir()}/store`, '127.0.0.1:0', ['--read-only']);
    const outside = await dial(new URL(`grpc+http://${open.at}`));
    const request = { blobDigest: named(one), chunkDigests: [named(one)], digestFunction: BLAKE3 };
    expect(await codeOf(outside.unary(CAS.splice, request))).toBe('PERMISSION_DENIED');
    const asked = { blobDigests: [named(one)], digestFunction: BLAKE3 };
    expect(await codeOf(outside.unary(CAS.findMissing, asked))).toBe('PERMISSION_DENIED');
    const store = await openAt(`grpc+http://${open.at}`);
    expect(await store.blobs.has(Digest.hash(one), { size: one.length })).toBe(false);
    expect(await codeOf(store.blobs.put(one))).toBe('PERMISSION_DENIED');
    await store.close();
    outside.close();
  });
});

test('a peer that cannot be asked gets all of it as one stream', async () => {
  const contents = randomBytes(3_000_000, 'foreign');
  const { BlobChunk, PutBlobResponse } = tvix.castore.v1;
  let received = 0;
  const server = await scriptedServer({
    'BlobService/Put': (...requests) => {
      const bytes = Buffer.concat(requests.map((request) => BlobChunk.decode(request).data as Buffer));
      received += bytes.length;
      return [PutBlobResponse.encode({ digest: Digest.hash(bytes).bytes }).finish()];
    },
  });
  await using(`${server.url}?protocol=tvix`, async ({ blobs }) => {
    const { digest, size } = await blobs.put(parts(contents), { size: contents.length });
    expect([digest.equals(Digest.hash(contents)), size]).toEqual([true, contents.length]);
    await blobs.put(contents.subarray(0, 1000));
  });
  expect([received, server.calls.get('BlobService/Put')]).toEqual([contents.length + 1000, 2]);
  server.close();
});
