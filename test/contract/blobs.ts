import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OutboardReader } from '../../src/castore/bao/reader.ts';
import { outboardLength } from '../../src/castore/bao/shape.ts';
import type { BlobService, Chunk } from '../../src/castore/blob/service.ts';
import { SINGLE_CHUNK_LIMIT } from '../../src/castore/blob/service.ts';
import { Digest } from '../../src/castore/digest.ts';
import { randomBytes } from '../helpers/random.ts';
import { readBlob } from '../helpers/services.ts';

const KIB = 1024;
const SIZES = [0, 1, 64 * KIB, 64 * KIB + 1, 128 * KIB, 128 * KIB + 1, 1 << 20, (3 << 20) + 7];

/** What every blob service does. */
export function blobServiceContract(
  open: () => Promise<{ blobs: BlobService; close: () => Promise<void> }>,
): void {
  describe('as a blob service', () => {
    let blobs: BlobService;
    let close: () => Promise<void>;
    const read = (digest: Digest, offset = 0) => readBlob({ blobs }, digest, offset);

    beforeAll(async () => {
      ({ blobs, close } = await open());
    });
    afterAll(() => close());

    test.each(SIZES)('gives back the %i bytes that were put', async (size) => {
      const contents = randomBytes(size, `put ${size}`);
      const stored = await blobs.put(contents);
      await blobs.flush();
      expect(stored.size).toBe(size);
      expect(stored.digest.hex).toBe(Digest.hash(contents).hex);
      expect((await read(stored.digest))?.equals(contents)).toBe(true);
      expect(await blobs.has(stored.digest)).toBe(true);
      expect(await blobs.has(stored.digest, { size })).toBe(true);
    });

    test.each(SIZES.slice(1))('gives all of the %i bytes that were asked for, or an error', async (size) => {
      const contents = randomBytes(size, `asked ${size}`);
      const { digest } = await blobs.put(contents);
      await blobs.flush();
      for (const claimed of [size - 1, size, size + 1, 2 * size]) {
        let length = 0;
        const reading = (async () => {
          for await (const part of (await blobs.read(digest, { size: claimed }))!) length += part.length;
        })();
        // The sizes of files are checked by whoever knows them, too.
        const failed = await reading.then(
          () => false,
          () => true,
        );
        expect(failed || length === size, `${claimed}: ${length}`).toBe(true);
      }
    });

    test.each(SIZES)('takes the word of who has hashed the %i bytes already', async (size) => {
      const contents = randomBytes(size, `hashed ${size}`);
      const digest = Digest.hash(contents);
      expect(plain([await blobs.put(contents, { digest })])).toEqual(plain([{ digest, size }]));
      await blobs.flush();
      expect((await read(digest))?.equals(contents)).toBe(true);
      const chunks = await blobs.chunks(digest);
      if (size > SINGLE_CHUNK_LIMIT && chunks!.length > 0)
        expect(chunks!.reduce((sum, chunk) => sum + chunk.size, 0)).toBe(size);
    });

    test('knows nothing of a blob that was never put', async () => {
      const digest = Digest.hash(Buffer.from('never put'));
      expect(await blobs.chunks(digest)).toBeUndefined();
      expect(await blobs.read(digest)).toBeUndefined();
      expect(await blobs.has(digest)).toBe(false);
      expect(await blobs.has(digest, { size: 1 << 20 })).toBe(false);
    });

    test('keeps a blob of up to 128 KiB as a single chunk', async () => {
      const { digest } = await blobs.put(randomBytes(SINGLE_CHUNK_LIMIT, 'single'));
      await blobs.flush();
      expect(await blobs.chunks(digest)).toEqual([]);
    });

    test('gives the chunks of a large blob, each to be read by itself', async () => {
      const contents = randomBytes(3 << 20, 'chunks');
      const { digest } = await blobs.put(contents);
      await blobs.flush();
      const chunks = await blobs.chunks(digest);
      expect(chunks!.length).toBeGreaterThan(5);
      const parts: Buffer[] = [];
      for (const chunk of chunks!) {
        const part = await read(chunk.digest);
        expect(part?.length).toBe(chunk.size);
        expect(Digest.hash(part!).hex).toBe(chunk.digest.hex);
        parts.push(part!);
      }
      expect(Buffer.concat(parts).equals(contents)).toBe(true);
    });

    test('gives an outboard that proves every part of a large blob', async () => {
      const contents = randomBytes((5 << 20) + 11, 'outboard');
      const blob = await blobs.put(contents);
      await blobs.flush();
      // Where the contents alone are no outboard, somebody has to make one.
      const outboard = (await blobs.outboard?.(blob.digest, { make: true }))!;
      expect(outboard.length).toBe(outboardLength(contents.length));
      const reader = new OutboardReader(blob, outboard);
      for (const [from, end] of [
        [4 << 20, contents.length],
        [48 * KIB, 64 * KIB],
        [0, 5 << 20],
      ] as const)
        await reader.prove(from, contents.subarray(from, end));
      await expect(reader.prove(0, contents.subarray(16 * KIB, 32 * KIB))).rejects.toThrow(
        'not what its digest',
      );
      // It is the same the next time, from the middle on.
      const again = (await blobs.outboard?.(blob.digest, { make: true }))!;
      const whole = await outboard.read(0, outboard.length);
      expect(Buffer.compare(await again.read(1000, 64), whole.subarray(1000, 1064))).toBe(0);
    });

    test('has no outboard of a blob that it lacks', async () => {
      const digest = Digest.hash(Buffer.from('no outboard'));
      expect(await blobs.outboard?.(digest, { make: true })).toBeUndefined();
    });

    test('gives the same digest and chunks however the stream is split', async () => {
      const contents = randomBytes(1_500_000, 'split');
      const whole = await blobs.put(contents);
      await blobs.flush();
      const expected = plain((await blobs.chunks(whole.digest))!);
      for (const step of [1009, 64 * KIB, 1 << 20]) {
        const parts = Array.from({ length: Math.ceil(contents.length / step) }, (_, i) =>
          contents.subarray(i * step, (i + 1) * step),
        );
        expect(plain([await blobs.put(parts)])).toEqual(plain([whole]));
        await blobs.flush();
        expect(plain((await blobs.chunks(whole.digest))!)).toEqual(expected);
      }
    });

    test('takes an empty stream, and empty parts', async () => {
      const { digest, size } = await blobs.put([Buffer.alloc(0), Buffer.alloc(0)]);
      expect(size).toBe(0);
      expect(plain([await blobs.put([])])).toEqual(plain([{ digest, size }]));
      await blobs.flush();
      expect(await read(digest)).toEqual(Buffer.alloc(0));
    });

    test('needs a part of a stream only until the next one is asked for', async () => {
      const contents = randomBytes(2 << 20, 'reused buffer');
      const { digest } = await blobs.put(
        (function* () {
          const buffer = Buffer.alloc(100_000);
          for (let at = 0; at < contents.length; at += buffer.length) {
            const count = contents.copy(buffer, 0, at, at + buffer.length);
            yield buffer.subarray(0, count);
            buffer.fill(0xff);
          }
        })(),
      );
      await blobs.flush();
      expect(digest.hex).toBe(Digest.hash(contents).hex);
      expect((await read(digest))?.equals(contents)).toBe(true);
    });

    test.each([500, 1_300_000])('reads %i bytes from any offset', async (size) => {
      const contents = randomBytes(size, `offsets ${size}`);
      const { digest } = await blobs.put(contents);
      await blobs.flush();
      const offsets = new Set([0, 1, size - 1, size, size + 1, size * 2]);
      let border = 0;
      for (const chunk of (await blobs.chunks(digest))!) {
        border += chunk.size;
        for (const near of [-1, 0, 1]) offsets.add(border + near);
      }
      for (const offset of offsets) {
        expect((await read(digest, offset))?.equals(contents.subarray(offset)), `from ${offset}`).toBe(true);
      }
    });

    test('refuses a put whose stream fails, and keeps nothing under that name', async () => {
      const contents = randomBytes(300_000, 'failing');
      const put = blobs.put(
        (async function* () {
          yield contents;
          throw new Error('the stream broke');
        })(),
      );
      await expect(put).rejects.toThrow('the stream broke');
      await blobs.flush();
      expect(await blobs.read(Digest.hash(contents))).toBeUndefined();
    });

    test('does nothing for a signal that has fired', async () => {
      const reason = new Error('no longer wanted');
      const signal = AbortSignal.abort(reason);
      for (const size of [1000, 300_000]) {
        const { digest } = await blobs.put(randomBytes(size, `fired ${size}`));
        await blobs.flush();
        await expect(blobs.chunks(digest, signal)).rejects.toBe(reason);
        await expect(blobs.read(digest, { signal })).rejects.toBe(reason);
        await expect(blobs.read(digest, { signal, size })).rejects.toBe(reason);
        const unwanted = randomBytes(size, `unwanted ${size}`);
        await expect(blobs.put(unwanted, { signal })).rejects.toBe(reason);
        await expect(blobs.put([unwanted], { signal, size })).rejects.toBe(reason);
        await blobs.flush();
        expect(await blobs.read(Digest.hash(unwanted))).toBeUndefined();
      }
    });

    test('takes many blobs at the same time', async () => {
      const contents = Array.from({ length: 200 }, (_, i) => randomBytes(i * 997, `many ${i % 150}`));
      const stored = await Promise.all(
        contents.map(async (bytes) => {
          const { digest } = await blobs.put(bytes);
          await blobs.flush();
          return digest;
        }),
      );
      for (const [i, digest] of stored.entries()) {
        expect((await read(digest))?.equals(contents[i]!)).toBe(true);
      }
    });
  });
}

function plain(chunks: readonly Chunk[]) {
  return chunks.map(({ digest, size }) => ({ digest: digest.hex, size }));
}
