import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Digest, EMPTY_DIGEST } from '../../src/castore/digest.ts';
import type { Channel } from '../../src/proto/grpc/channel.ts';
import { dial } from '../../src/proto/grpc/dial.ts';
import {
  BLAKE3,
  BYTE_STREAM,
  CAPABILITIES,
  CAS,
  COMPRESSOR,
  MAX_BATCH,
} from '../../src/proto/grpc/methods.ts';
import type { Store } from '../../src/store/services.ts';
import { zstdCompress, zstdDecompress } from '../../src/util/compression/zstd.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { openAt, startDaemon } from '../helpers/daemon.ts';
import { randomBytes } from '../helpers/random.ts';
import { RawClient } from '../helpers/raw-grpc.ts';
import { codeOf, readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const [OK, INVALID_ARGUMENT, NOT_FOUND] = [0, 3, 5];
const named = (bytes: Uint8Array) => ({ hash: Digest.hash(bytes).hex, sizeBytes: bytes.length });
const nameOf = (bytes: Uint8Array, size = bytes.length) => `blobs/blake3/${Digest.hash(bytes).hex}/${size}`;

describe('the storage of the Remote Execution API', () => {
  let daemon: TestDaemon;
  let channel: Channel;
  let store: Store;
  beforeAll(async () => {
    daemon = await startDaemon(`local://${tempDir()}/store`);
    channel = await dial(new URL(daemon.url));
    store = await openAt(daemon.url);
  });
  afterAll(async () => {
    channel.close();
    await store.close();
    await daemon.stop();
  });

  const update = (...blobs: { digest: object; data: Uint8Array; compressor?: number }[]) =>
    channel.unary(CAS.batchUpdate, { requests: blobs as never, digestFunction: BLAKE3 });
  const batchRead = (...digests: ReturnType<typeof named>[]) =>
    channel.unary(CAS.batchRead, { digests, digestFunction: BLAKE3 });
  const codes = ({ responses }: { responses?: { status?: { code?: number | null } | null }[] | null }) =>
    responses?.map(({ status }) => status?.code ?? OK);
  const stored = (bytes: Uint8Array) => readBlob(store, Digest.hash(bytes));
  const bytesOf = async (resourceName: string, readOffset = 0, readLimit = 0) => {
    const parts = await Array.fromAsync(
      channel.serverStream(BYTE_STREAM.read, { resourceName, readOffset, readLimit }),
    );
    return Buffer.concat(parts.map(({ data }) => data ?? new Uint8Array()));
  };
  /** Writes in parts of so many bytes. */
  const write = (resourceName: string, bytes: Uint8Array, part = 100_000, from = 0) => {
    const messages = function* () {
      for (let at = 0; at === 0 || at < bytes.length; at += part)
        yield {
          resourceName: at === 0 ? resourceName : '',
          writeOffset: from + at,
          data: bytes.subarray(at, at + part),
          finishWrite: at + part >= bytes.length,
        };
    };
    return channel
      .clientStream(BYTE_STREAM.write, messages())
      .then(({ committedSize }) => Number(committedSize));
  };

  test('says what it is', async () => {
    const { cacheCapabilities } = await channel.unary(CAPABILITIES.get, { instanceName: 'any/name' });
    expect(cacheCapabilities?.digestFunctions).toEqual([BLAKE3]);
    expect(Number(cacheCapabilities?.maxBatchTotalSizeBytes)).toBe(MAX_BATCH);
  });

  test('takes many blobs in one call, each by itself', async () => {
    const blobs = [0, 10, 100_000, 1_000_000].map((length) => randomBytes(length, `batch ${length}`));
    const wrong = { digest: named(Buffer.from('right')), data: Buffer.from('wrong') };
    const longer = { digest: { ...named(blobs[1]!), sizeBytes: 9 }, data: blobs[1]! };
    const noDigest = { digest: { hash: 'ab', sizeBytes: 5 }, data: Buffer.from('bytes') };
    const answer = await update(
      ...blobs.map((data) => ({ digest: named(data), data })),
      wrong,
      longer,
      noDigest,
    );
    expect(codes(answer)).toEqual([OK, OK, OK, OK, INVALID_ARGUMENT, INVALID_ARGUMENT, INVALID_ARGUMENT]);
    for (const bytes of blobs) expect((await stored(bytes))?.equals(bytes)).toBe(true);
    expect(await stored(Buffer.from('wrong'))).toBeUndefined();
  });

  test('takes blobs by zstd, and nothing that becomes more than it says', async () => {
    const bytes = Buffer.alloc(100_000, 'zstd ');
    const compressor = COMPRESSOR.ZSTD;
    const data = zstdCompress(bytes);
    const cut = data.subarray(0, data.length - 1);
    const bomb = { digest: named(Buffer.alloc(1000)), data: zstdCompress(Buffer.alloc(8 << 20)), compressor };
    const answer = await update(
      { digest: named(bytes), data, compressor },
      { digest: named(bytes), data: cut, compressor },
      bomb,
      { digest: named(bytes), data, compressor: 2 },
    );
    expect(codes(answer)).toEqual([OK, INVALID_ARGUMENT, INVALID_ARGUMENT, INVALID_ARGUMENT]);
    expect((await stored(bytes))?.equals(bytes)).toBe(true);
  });

  test('gives many blobs in one call, those that are there', async () => {
    const blobs = [1, 5000, 2_000_000].map((length) => randomBytes(length, `read ${length}`));
    for (const bytes of blobs) await store.blobs.put(bytes);
    const absent = named(Buffer.from('absent from the batch'));
    const other = { ...named(blobs[1]!), sizeBytes: 4999 };
    const answer = await batchRead(...blobs.map(named), absent, other, {
      hash: EMPTY_DIGEST.hex,
      sizeBytes: 0,
    });
    expect(codes(answer)).toEqual([OK, OK, OK, NOT_FOUND, INVALID_ARGUMENT, OK]);
    for (const [i, bytes] of blobs.entries())
      expect(bytes.equals(answer.responses![i]!.data as Uint8Array)).toBe(true);
  });

  test('gives blobs by zstd to who takes that, where it is shorter', async () => {
    const [text, noise] = [Buffer.alloc(50_000, 'text '), randomBytes(50_000, 'noise')];
    for (const bytes of [text, noise]) await store.blobs.put(bytes);
    const { responses } = await channel.unary(CAS.batchRead, {
      digests: [text, noise].map(named),
      digestFunction: BLAKE3,
      acceptableCompressors: [COMPRESSOR.ZSTD],
    });
    expect(responses?.map(({ compressor }) => compressor ?? 0)).toEqual([
      COMPRESSOR.ZSTD,
      COMPRESSOR.IDENTITY,
    ]);
    const [first, second] = responses!.map(({ data }) => data as Uint8Array);
    expect(text.equals(zstdDecompress(first!, text.length))).toBe(true);
    expect(noise.equals(second!)).toBe(true);
  });

  test('refuses other digest functions, and more than it says it takes', async () => {
    const bytes = Buffer.from('of a function');
    for (const digestFunction of [0, 1] as number[] as (typeof BLAKE3)[]) {
      const digests = [named(bytes)];
      const requests = [{ digest: named(bytes), data: bytes }];
      const asked = channel.unary(CAS.findMissing, { blobDigests: digests, digestFunction });
      expect(await codeOf(asked)).toBe('INVALID_ARGUMENT');
      expect(await codeOf(channel.unary(CAS.batchUpdate, { requests, digestFunction }))).toBe(
        'INVALID_ARGUMENT',
      );
      expect(await codeOf(channel.unary(CAS.batchRead, { digests, digestFunction }))).toBe(
        'INVALID_ARGUMENT',
      );
    }
    const much = { ...named(bytes), sizeBytes: MAX_BATCH };
    expect(await codeOf(batchRead(much, named(bytes)))).toBe('INVALID_ARGUMENT');
    const data = Buffer.alloc(MAX_BATCH + 1);
    expect(await codeOf(update({ digest: named(data), data }))).toBe('INVALID_ARGUMENT');
  });

  test('the empty blob is there, also for other calls', async () => {
    const digest = { hash: EMPTY_DIGEST.hex, sizeBytes: 0 };
    expect(await bytesOf(`blobs/blake3/${digest.hash}/0`)).toHaveLength(0);
    const asked = await channel.unary(CAS.findMissing, { blobDigests: [digest], digestFunction: BLAKE3 });
    expect(asked.missingBlobDigests).toEqual([]);
    expect(await stored(new Uint8Array())).toHaveLength(0);
  });

  test('a blob is read from anywhere, to anywhere', async () => {
    const bytes = randomBytes(1_500_000, 'stream');
    await store.blobs.put(bytes);
    expect((await bytesOf(nameOf(bytes))).equals(bytes)).toBe(true);
    expect((await bytesOf(`an/instance/${nameOf(bytes)}`, 1_000_000)).equals(bytes.subarray(1_000_000))).toBe(
      true,
    );
    expect((await bytesOf(nameOf(bytes), 700_000, 10)).equals(bytes.subarray(700_000, 700_010))).toBe(true);
    expect(await bytesOf(nameOf(bytes), bytes.length)).toHaveLength(0);
    expect((await bytesOf(nameOf(bytes), 1_499_999, 100)).equals(bytes.subarray(1_499_999))).toBe(true);
    const zstd = await bytesOf(`compressed-${nameOf(bytes).replace('/', '/zstd/')}`, 500_000);
    expect(bytes.subarray(500_000).equals(zstdDecompress(zstd, bytes.length))).toBe(true);
  });

  test('a stream of what there is not is refused', async () => {
    const bytes = randomBytes(300_000, 'there');
    await store.blobs.put(bytes);
    expect(await codeOf(bytesOf(nameOf(Buffer.from('not there'))))).toBe('NOT_FOUND');
    expect(await codeOf(bytesOf(nameOf(bytes), 300_001))).toBe('OUT_OF_RANGE');
    expect(await codeOf(bytesOf(nameOf(bytes), -1))).toBe('OUT_OF_RANGE');
    expect(await codeOf(bytesOf(nameOf(bytes), 0, -1))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(bytesOf(nameOf(bytes, 299_999)))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(bytesOf(nameOf(bytes, 300_001)))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(bytesOf(`blobs/${Digest.hash(bytes).hex}/300000`))).toBe('INVALID_ARGUMENT');
  });

  test.each([0, 1, 100_000, 3_000_000])('an upload of %i bytes is stored, also by zstd', async (length) => {
    const plain = randomBytes(length, `plain ${length}`);
    const size = await write(`uploads/1/${nameOf(plain)}`, plain);
    expect([size, (await stored(plain))?.equals(plain)]).toEqual([length, true]);
    const bytes = randomBytes(length, `zstd ${length}`);
    const name = `uploads/1/compressed-${nameOf(bytes).replace('/', '/zstd/')}`;
    // Whoever sends what is there hears so before anything is looked at.
    expect(await write(name, zstdCompress(bytes))).toBe(-1);
    expect((await stored(bytes))?.equals(bytes)).toBe(true);
    expect(await write(`uploads/2/${nameOf(bytes)}`, Buffer.from('anything'))).toBe(length);
  });

  test('an upload of something else than it says is refused', async () => {
    const [right, wrong] = [randomBytes(200_000, 'right'), randomBytes(200_000, 'wrong')];
    const name = `uploads/1/${nameOf(right)}`;
    const zstd = `uploads/1/compressed-${nameOf(right).replace('/', '/zstd/')}`;
    for (const bytes of [wrong, wrong.subarray(1), Buffer.concat([wrong, wrong])]) {
      expect(await codeOf(write(name, bytes))).toBe('INVALID_ARGUMENT');
      expect(await codeOf(write(zstd, zstdCompress(bytes)))).toBe('INVALID_ARGUMENT');
    }
    expect(await codeOf(write(zstd, right))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(write(zstd, zstdCompress(right).subarray(0, 1000)))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(write(name, right, 100_000, 5))).toBe('INVALID_ARGUMENT');
    expect(await stored(right)).toBeUndefined();
  });

  test('an upload that was cut goes on where it ended', async () => {
    const bytes = randomBytes(3_000_000, 'cut');
    const resourceName = `uploads/cut/${nameOf(bytes)}`;
    const client = new RawClient(daemon.at);
    const call = client.open('/google.bytestream.ByteStream/Write');
    call.write(BYTE_STREAM.write.request.encode({ resourceName, data: bytes.subarray(0, 1_000_000) }));
    call.write(
      BYTE_STREAM.write.request.encode({
        writeOffset: 1_000_000,
        data: bytes.subarray(1_000_000, 2_000_000),
      }),
    );
    await new Promise((resolve) => setTimeout(resolve, 500));
    client.close();
    call.cancel();
    const query = async () => {
      const { committedSize, complete } = await channel.unary(BYTE_STREAM.query, { resourceName });
      return [Number(committedSize ?? 0), complete ?? false];
    };
    await expect.poll(query, { timeout: 20_000 }).toEqual([2_000_000, false]);
    expect(await write(resourceName, bytes.subarray(2_000_000), 100_000, 2_000_000)).toBe(bytes.length);
    expect(await query()).toEqual([bytes.length, true]);
    expect((await stored(bytes))?.equals(bytes)).toBe(true);
  });

  test('an upload that its client ends early says how much is there, and goes on', async () => {
    const bytes = randomBytes(500_000, 'early');
    const resourceName = `uploads/early/${nameOf(bytes)}`;
    const begin = [{ resourceName, data: bytes.subarray(0, 200_000) }];
    const { committedSize } = await channel.clientStream(BYTE_STREAM.write, begin);
    expect(Number(committedSize)).toBe(200_000);
    expect(await write(resourceName, bytes.subarray(200_000), 100_000, 200_000)).toBe(bytes.length);
    expect((await stored(bytes))?.equals(bytes)).toBe(true);
  });

  test('uploads are for those who may: the others may read', async () => {
    const dir = tempDir();
    const bytes = randomBytes(1000, 'reader');
    const writable = await startDaemon(`local://${dir}/store`);
    const writing = await openAt(writable.url);
    await writing.blobs.put(bytes);
    await writing.close();
    const open = await startDaemon(`local://${dir}/store`, '127.0.0.1:0', ['--read-only']);
    const outside = await dial(new URL(open.url));
    const requests = [{ digest: named(bytes), data: bytes }];
    const name = `uploads/1/${nameOf(bytes)}`;
    const update = outside.unary(CAS.batchUpdate, { requests, digestFunction: BLAKE3 });
    expect(await codeOf(update)).toBe('PERMISSION_DENIED');
    const message = { resourceName: name, data: bytes, finishWrite: true };
    expect(await codeOf(outside.clientStream(BYTE_STREAM.write, [message]))).toBe('PERMISSION_DENIED');
    expect(await codeOf(outside.unary(BYTE_STREAM.query, { resourceName: name }))).toBe('PERMISSION_DENIED');
    const read = await outside.unary(CAS.batchRead, { digests: [named(bytes)], digestFunction: BLAKE3 });
    expect(bytes.equals(read.responses![0]!.data as Uint8Array)).toBe(true);
    outside.close();
  });
});
