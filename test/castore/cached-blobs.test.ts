import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { CachedBlobService } from '../../src/castore/blob/cached.ts';
import { MemoryBlobService } from '../../src/castore/blob/memory.ts';
import type { BlobService } from '../../src/castore/blob/service.ts';
import { MAX_CHUNK_LENGTH } from '../../src/castore/blob/service.ts';
import { Digest } from '../../src/castore/digest.ts';
import { damaged } from '../../src/util/errors.ts';
import { blobServiceContract } from '../contract/blobs.ts';
import { randomBytes } from '../helpers/random.ts';
import { all, codeOf, localStore, readBlob } from '../helpers/services.ts';
import { counted, except, failing } from '../helpers/services-that.ts';
import { tempDir } from '../helpers/temp.ts';

describe.each(['near', 'far'] as const)('a cache of blobs where puts go %s', (puts) => {
  blobServiceContract(async () => ({
    blobs: new CachedBlobService(new MemoryBlobService(), new MemoryBlobService(), puts),
    close: async () => {},
  }));
});

describe('a cache of blobs in a local store', () => {
  blobServiceContract(async () => {
    const near = localStore(tempDir());
    const blobs = new CachedBlobService(near.blobs, new MemoryBlobService(), 'far');
    const close = async () => {
      await blobs.settle();
      await near.close();
    };
    return { blobs, close };
  });
});

const LARGE = randomBytes(5 << 20, 'large');
const SMALL = randomBytes(1000, 'small');

/** A far service that has the two, and a cache of it. */
async function cache(options: { near?: BlobService; lists?: boolean } = {}) {
  const memory = new MemoryBlobService();
  const large = (await memory.put(LARGE)).digest;
  const small = (await memory.put(SMALL)).digest;
  const unlisted = except<BlobService>(memory, {
    chunks: async (digest) => ((await memory.chunks(digest)) ? [] : undefined),
  });
  const { service: far, calls } = counted<BlobService>(options.lists === false ? unlisted : memory);
  const near = options.near ?? new MemoryBlobService();
  const blobs = new CachedBlobService(near, far, 'far');
  const parts = (await memory.chunks(large))!;
  return { blobs, near, far, calls, large, small, parts };
}

describe('a cache of blobs', () => {
  test('asks far once for what many want at the same time', async () => {
    const { blobs, calls, large, small, parts } = await cache();
    const read = (digest: Digest, size: number) =>
      Promise.all(Array.from({ length: 20 }, async () => all((await blobs.read(digest, { size }))!)));
    for (const one of await read(small, SMALL.length)) expect(Buffer.concat(one).equals(SMALL)).toBe(true);
    expect(calls).toEqual({ read: 1 });
    for (const one of await read(large, LARGE.length)) expect(Buffer.concat(one).equals(LARGE)).toBe(true);
    expect(calls).toEqual({ read: 1 + parts.length, chunks: 1 });
  });

  test('does not ask far again for what it has read', async () => {
    const { blobs, near, calls, large, small } = await cache();
    for (const digest of [small, large]) await readBlob({ blobs }, digest);
    await blobs.settle();
    const before = { ...calls };
    expect((await readBlob({ blobs }, large))?.equals(LARGE)).toBe(true);
    expect((await readBlob({ blobs }, small))?.equals(SMALL)).toBe(true);
    expect(calls).toEqual(before);
    expect((await readBlob({ blobs: near }, large))?.equals(LARGE)).toBe(true);
  });

  test('fetches the chunks from an offset on, and only them', async () => {
    const { blobs, calls, large, parts } = await cache();
    const offset = LARGE.length - parts.at(-1)!.size - 10;
    expect((await readBlob({ blobs }, large, offset))?.equals(LARGE.subarray(offset))).toBe(true);
    expect(calls.read).toBe(2);
    await blobs.settle();
    expect((await readBlob({ blobs }, large))?.equals(LARGE)).toBe(true);
    expect(calls.read).toBe(parts.length);
  });

  test('fetches a blob of which far knows no chunks once, whoever reads from wherever', async () => {
    const { blobs, near, calls, large } = await cache({ lists: false });
    const offsets = [0, 1, 3 << 20, LARGE.length, LARGE.length + 1, 0];
    await Promise.all(
      offsets.map(async (offset) => {
        expect((await readBlob({ blobs }, large, offset))?.equals(LARGE.subarray(offset))).toBe(true);
      }),
    );
    expect(calls.read).toBe(1);
    await blobs.settle();
    expect((await readBlob({ blobs: near }, large))?.equals(LARGE)).toBe(true);
  });

  test.each([true, false])('goes on for others when one leaves (chunks known: %s)', async (lists) => {
    const { blobs, large } = await cache({ lists });
    const others = Array.from({ length: 5 }, () => readBlob({ blobs }, large));
    for await (const part of (await blobs.read(large))!) if (part.length > 0) break;
    const stop = new AbortController();
    const aborted = (async () => {
      for await (const _ of (await blobs.read(large, { signal: stop.signal }))!)
        stop.abort(new Error('enough'));
    })();
    await expect(aborted).rejects.toThrow('enough');
    for (const other of others) expect((await other)?.equals(LARGE)).toBe(true);
    expect((await readBlob({ blobs }, large))?.equals(LARGE)).toBe(true);
  });

  test('holds a bounded part of a blob while near is slow', async () => {
    const digest = Digest.hash(Buffer.from('endless'));
    let given = 0;
    const far = except<BlobService>(new MemoryBlobService(), {
      chunks: async () => [],
      read: async () =>
        (async function* () {
          for (; given < 300; given++) yield randomBytes(1 << 20, given);
        })(),
    });
    const near = except<BlobService>(new MemoryBlobService(), { put: () => new Promise(() => {}) });
    const blobs = new CachedBlobService(near, far, 'far');
    const reader = (await blobs.read(digest))![Symbol.asyncIterator]();
    expect((await reader.next()).done).toBe(false);
    for (let seen = -1; seen !== given; ) {
      seen = given;
      await sleep(100);
    }
    expect(given).toBeLessThan(50);
  });
});

describe('a cache of blobs whose near store fails', () => {
  test.each([
    ['is full', failing<BlobService>(new MemoryBlobService(), 'put', 'flush', 'assemble')],
    ['is broken', failing<BlobService>(new MemoryBlobService())],
  ])('gives everything when it %s', async (_, near) => {
    for (const lists of [true, false]) {
      const { blobs, large, small } = await cache({ near, lists });
      for (let times = 0; times < 2; times++) {
        expect((await readBlob({ blobs }, large))?.equals(LARGE)).toBe(true);
        expect((await readBlob({ blobs }, large, 2 << 20))?.equals(LARGE.subarray(2 << 20))).toBe(true);
        expect((await readBlob({ blobs }, small))?.equals(SMALL)).toBe(true);
      }
      expect(await blobs.chunks(Digest.hash(Buffer.from('never put')))).toBeUndefined();
      await blobs.settle();
    }
  });

  test('goes on from far where near breaks off', async () => {
    const inner = new MemoryBlobService();
    await inner.put(LARGE);
    const near = except<BlobService>(inner, {
      read: async () =>
        (async function* () {
          yield LARGE.subarray(0, 1_000_000);
          throw new Error('the disk is gone');
        })(),
    });
    const { blobs, large } = await cache({ near });
    expect((await readBlob({ blobs }, large))?.equals(LARGE)).toBe(true);
  });

  test('goes on from far when near lets go of a blob while it arrives', async () => {
    const { blobs, large } = await cache({
      lists: false,
      near: except<BlobService>(new MemoryBlobService(), { read: async () => undefined }),
    });
    const parts: Uint8Array[] = [];
    for await (const part of (await blobs.read(large))!) {
      parts.push(part);
      await sleep(1);
    }
    expect(Buffer.concat(parts).equals(LARGE)).toBe(true);
  });
});

describe('a cache of blobs whose far store lies', () => {
  test('says so when the chunks it named make another blob, and keeps no list of them', async () => {
    const { far, near, large, parts } = await cache();
    const swapped = [parts[1]!, parts[0]!, ...parts.slice(2)];
    const blobs = new CachedBlobService(near, except(far, { chunks: async () => swapped }), 'far');
    expect(await codeOf(readBlob({ blobs }, large))).toBe('DATA_LOSS');
    await blobs.settle();
    expect(await near.chunks(large)).toBeUndefined();
  });

  test.each([
    ['a chunk that is not there', async (far: BlobService) => except(far, { read: async () => undefined })],
    [
      'a list of another length than the blob',
      async (far: BlobService) =>
        except(far, { chunks: async (digest) => (await far.chunks(digest))?.slice(1) }),
    ],
  ])('says so for %s', async (_, lying) => {
    const { far, near, large } = await cache();
    const blobs = new CachedBlobService(near, await lying(far), 'far');
    const read = async () => all((await blobs.read(large, { size: LARGE.length }))!);
    expect(await codeOf(read)).toBe('DATA_LOSS');
  });

  /** Contents as a service gives them that finds out at their end that they are others. */
  const corrupted = (bytes: Uint8Array) =>
    (async function* () {
      const wrong = Uint8Array.from(bytes);
      wrong[wrong.length - 1]! ^= 1;
      for (let at = 0; at < wrong.length; at += 100_000) yield wrong.subarray(at, at + 100_000);
      throw damaged('these are other contents');
    })();

  test.each([
    ['in chunks', true],
    ['as a whole', false],
  ])('keeps nothing by the name of a blob that comes %s and is another', async (_, lists) => {
    const { far, large, small, parts } = await cache({ lists });
    const near = localStore(tempDir());
    const lying = except<BlobService>(far, {
      read: async (digest) => {
        const honest = await far.read(digest);
        return honest && corrupted(Buffer.concat(await all(honest)));
      },
    });
    const blobs = new CachedBlobService(near.blobs, lying, 'far');
    for (const [digest, size] of [
      [large, LARGE.length],
      [small, SMALL.length],
    ] as const) {
      expect(await codeOf((async () => all((await blobs.read(digest, { size }))!))())).toBe('DATA_LOSS');
      await blobs.settle();
      expect(await near.blobs.chunks(digest)).toBeUndefined();
      expect(await near.blobs.read(digest)).toBeUndefined();
    }
    // What did come of it, cut here, is what its own digest says, or it is not there.
    for (const { digest, size } of parts) {
      const kept = await near.blobs.read(digest, { size });
      if (kept) expect(Digest.hash(Buffer.concat(await all(kept))).equals(digest)).toBe(true);
    }
    await near.close();
  });

  test.each(['near', 'far'] as const)(
    'ends with an error for who had wrong bytes from near (%s)',
    async (puts) => {
      const wrong = randomBytes(LARGE.length, 'wrong near');
      for (const length of [1_000_000, LARGE.length]) {
        const { far, large } = await cache();
        const inner = new MemoryBlobService();
        await inner.put(LARGE);
        const near = except<BlobService>(inner, {
          read: async () =>
            (async function* () {
              yield wrong.subarray(0, length);
              throw damaged('it is another blob');
            })(),
        });
        const blobs = new CachedBlobService(near, far, puts);
        expect(await codeOf(readBlob({ blobs }, large))).toBe('DATA_LOSS');
      }
    },
  );

  test('ends with an error when near refuses what comes, and far tells something else the next time', async () => {
    const memory = new MemoryBlobService();
    const { digest } = await memory.put(LARGE);
    const wrong = randomBytes(LARGE.length, 'the first time');
    let times = 0;
    const far = except<BlobService>(memory, {
      chunks: async () => [],
      read: async () =>
        (async function* () {
          const isFirst = times++ === 0;
          yield isFirst ? wrong : LARGE;
          if (isFirst) throw damaged('these are other contents');
        })(),
    });
    const inner = new MemoryBlobService();
    let puts = 0;
    const near = except<BlobService>(inner, {
      read: async (one, options) => (puts > 3 ? undefined : inner.read(one, options)),
      put: async (content, options) => {
        puts++;
        return inner.put(content, options);
      },
    });
    const blobs = new CachedBlobService(near, far, 'far');
    expect(await codeOf(readBlob({ blobs }, digest))).toBe('DATA_LOSS');
  });

  test('is found out when near lets go in the middle, though far checks a part by its list alone', async () => {
    const { far, large, parts } = await cache();
    const wrong = randomBytes(LARGE.length, 'another');
    const lying = except<BlobService>(far, {
      // From the middle on, nobody can tell; from the start, the whole is another blob.
      read: async (_digest, { offset = 0 } = {}) =>
        (async function* () {
          yield wrong.subarray(offset);
          if (offset === 0) throw damaged('these are other contents');
        })(),
    });
    const inner = new MemoryBlobService();
    await inner.put(LARGE);
    const near = except<BlobService>(inner, {
      read: async () =>
        (async function* () {
          yield LARGE.subarray(0, parts[0]!.size);
          throw new Error('the disk is gone');
        })(),
    });
    const blobs = new CachedBlobService(near, lying, 'far');
    expect(await codeOf(readBlob({ blobs }, large))).toBe('DATA_LOSS');
  });

  test('is read as a whole when its list has chunks that are too long to be held', async () => {
    const { far, near, large } = await cache();
    const chunk = { digest: large, size: MAX_CHUNK_LENGTH + 1 };
    const blobs = new CachedBlobService(near, except(far, { chunks: async () => [chunk] }), 'far');
    expect((await readBlob({ blobs }, large))?.equals(LARGE)).toBe(true);
  });
});
