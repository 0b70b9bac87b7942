import { beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { BLAKE3, CAPABILITIES, CAS } from '../../src/proto/grpc/methods.ts';
import { tvix } from '../../src/proto/messages.ts';
import type { Store } from '../../src/store/services.ts';
import { watchArrivals } from '../../src/util/async/arrivals.ts';
import { collect } from '../../src/util/bytes.ts';
import { openAt } from '../helpers/daemon.ts';
import { randomBytes } from '../helpers/random.ts';
import type { ScriptedServer } from '../helpers/scripted-server.ts';
import { scriptedServer } from '../helpers/scripted-server.ts';
import { codeOf } from '../helpers/services.ts';

const { BlobChunk, ReadBlobRequest } = tvix.castore.v1;
const BATCH = 'ContentAddressableStorage/BatchReadBlobs';
const READ = 'BlobService/Read';
const [INTERNAL, NOT_FOUND] = [13, 5];
const SMALL = Array.from({ length: 50 }, (_, i) => randomBytes(1000 + i, `small ${i}`));

/** What a peer says of a blob that is asked for with others: its contents or a status. */
type Said = (contents: Buffer) => Buffer | number;

describe('small blobs that are wanted at the same time', () => {
  const byHash = new Map(SMALL.map((bytes) => [Digest.hash(bytes).hex, bytes]));
  let said: Said;
  let server: ScriptedServer;
  beforeAll(async () => {
    server = await scriptedServer({
      'Capabilities/GetCapabilities': () => [
        CAPABILITIES.get.response.encode({ cacheCapabilities: { digestFunctions: [BLAKE3] } }),
      ],
      [BATCH]: (request) => {
        const { digests } = CAS.batchRead.request.decode(request!);
        const responses = digests!.map((digest) => {
          const answer = said(byHash.get(digest.hash!)!);
          return typeof answer === 'number' ? { digest, status: { code: answer } } : { digest, data: answer };
        });
        return [CAS.batchRead.response.encode({ responses })];
      },
      [READ]: (request) => {
        const contents = byHash.get(Buffer.from(ReadBlobRequest.decode(request!).digest).toString('hex'));
        return contents ? [BlobChunk.encode({ data: contents }).finish()] : 'NOT_FOUND';
      },
    });
    return () => server.close();
  });

  const read = async ({ blobs }: Store, bytes: Buffer, signal?: AbortSignal) => {
    const contents = await blobs.read(Digest.hash(bytes), { size: bytes.length, signal });
    return contents && collect(contents, bytes.length);
  };

  /** With a store that knows by a first read that the peer takes batches; gives the calls that were made then. */
  async function batching(
    says: Said,
    work: (store: Store) => Promise<void>,
  ): Promise<{ batches: number; reads: number }> {
    said = says;
    const store = await openAt(`${server.url}?protocol=tvix`);
    const calls = () => [server.calls.get(BATCH) ?? 0, server.calls.get(READ) ?? 0] as const;
    try {
      const asked = server.calls.get('Capabilities/GetCapabilities') ?? 0;
      await read(store, SMALL[0]!);
      await expect.poll(() => server.calls.get('Capabilities/GetCapabilities')).toBe(asked + 1);
      await read(store, SMALL[0]!);
      const [batches, reads] = calls();
      await work(store);
      return { batches: calls()[0] - batches, reads: calls()[1] - reads };
    } finally {
      await store.close();
    }
  }

  test('come in one call, and one alone by its own', async () => {
    const calls = await batching(
      (contents) => contents,
      async (store) => {
        const got = await Promise.all(SMALL.map((one) => read(store, one)));
        for (const [i, bytes] of got.entries()) expect(SMALL[i]!.equals(bytes!)).toBe(true);
        await read(store, SMALL[3]!);
      },
    );
    expect(calls).toEqual({ batches: 1, reads: 1 });
  });

  test('are each there or not, and asked for alone where something is wrong with them', async () => {
    const [there, absent, odd] = SMALL.slice(0, 3);
    const calls = await batching(
      (contents) => {
        if (contents === absent) return NOT_FOUND;
        return contents === odd ? INTERNAL : contents;
      },
      async (store) => {
        const got = await Promise.all([there!, absent!, odd!].map((one) => read(store, one)));
        expect(got.map((bytes) => bytes?.length)).toEqual([there!.length, undefined, odd!.length]);
      },
    );
    expect(calls).toEqual({ batches: 1, reads: 1 });
  });

  test('are checked, each by itself', async () => {
    const [right, wrong] = SMALL.slice(0, 2);
    await batching(
      (contents) => (contents === wrong ? Buffer.from('lies') : contents),
      async (store) => {
        const failed = codeOf(read(store, wrong!));
        expect((await read(store, right!))?.length).toBe(right!.length);
        expect(await failed).toBe('DATA_LOSS');
      },
    );
  });

  test('are given up one by one, and each hears of its part of what arrives', async () => {
    const heard = [0, 0];
    await batching(
      (contents) => contents,
      async (store) => {
        const stop = new AbortController();
        const watching = (i: number, signal?: AbortSignal) =>
          watchArrivals(
            (bytes) => {
              heard[i]! += bytes;
            },
            () => read(store, SMALL[i]!, signal),
          );
        const first = watching(0);
        const second = watching(1);
        const third = expect(watching(2, stop.signal)).rejects.toThrow('enough');
        stop.abort(new Error('enough'));
        await Promise.all([first, second, third]);
      },
    );
    for (const bytes of heard) expect(bytes).toBeGreaterThan(900);
    expect(heard[0]! + heard[1]!).toBeLessThan(4000);
  });
});
