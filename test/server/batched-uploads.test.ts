import { beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { BLAKE3, BLOB, CAPABILITIES, CAS } from '../../src/proto/grpc/methods.ts';
import type { Store } from '../../src/store/services.ts';
import { openAt, startDaemon } from '../helpers/daemon.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import type { Script } from '../helpers/scripted-server.ts';
import { scriptedServer } from '../helpers/scripted-server.ts';
import { codeOf, readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const SMALL = Array.from({ length: 500 }, (_, i) => randomBytes(1000 + i, `small ${i}`));

async function using<T>(address: string, work: (store: Store) => Promise<T>): Promise<T> {
  const store = await openAt(address);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

/** A peer that takes batches, and does with each blob what it is told. */
async function takingBatches(
  status: (contents: Uint8Array) => { code?: number; message?: string } | undefined,
  more: Script = {},
  most = 0,
) {
  return scriptedServer({
    'Capabilities/GetCapabilities': () => [
      CAPABILITIES.get.response.encode({
        cacheCapabilities: { digestFunctions: [BLAKE3], maxBatchTotalSizeBytes: most },
      }),
    ],
    'ContentAddressableStorage/FindMissingBlobs': (request) => {
      const { blobDigests } = CAS.findMissing.request.decode(request!);
      return [CAS.findMissing.response.encode({ missingBlobDigests: blobDigests ?? [] })];
    },
    'ContentAddressableStorage/BatchUpdateBlobs': (request) => {
      const { requests } = CAS.batchUpdate.request.decode(request!);
      const responses = requests!.flatMap(({ digest, data }) => {
        const said = status(data!);
        return said ? [{ digest: digest!, status: said }] : [];
      });
      return [CAS.batchUpdate.response.encode({ responses })];
    },
    ...more,
  });
}

describe('small blobs', () => {
  let proxy: TcpProxy;
  let url: string;
  beforeAll(async () => {
    const daemon = await startDaemon(`local://${tempDir()}/store`);
    url = daemon.url;
    proxy = await TcpProxy.start(daemon.port);
  });

  test('that are put together are there together, and once', async () => {
    const put = () =>
      proxy.count(() => using(proxy.url, ({ blobs }) => Promise.all(SMALL.map((one) => blobs.put(one)))));
    expect((await put()).up).toBeLessThan(1_000_000);
    expect((await put()).up).toBeLessThan(60_000);
    for (const one of SMALL.slice(0, 20))
      expect((await using(url, (store) => readBlob(store, Digest.hash(one))))?.equals(one)).toBe(true);
  });

  test('go in few calls', async () => {
    const server = await takingBatches(() => ({}));
    await using(`${server.url}?protocol=tvix`, ({ blobs }) =>
      Promise.all(SMALL.map((one) => blobs.put(one))),
    );
    expect(server.calls.get('Capabilities/GetCapabilities')).toBe(1);
    expect(server.calls.get('ContentAddressableStorage/FindMissingBlobs')).toBe(1);
    expect(server.calls.get('ContentAddressableStorage/BatchUpdateBlobs')).toBeLessThan(20);
    expect(server.calls.get('BlobService/Put')).toBeUndefined();
    server.close();
  });

  test('fail each by itself', async () => {
    const [good, bad, forgotten] = [SMALL[0]!, SMALL[1]!, SMALL[2]!];
    const server = await takingBatches((contents) => {
      if (bad.equals(contents)) return { code: 9, message: 'not this one' };
      return good.equals(contents) ? {} : undefined;
    });
    await using(`${server.url}?protocol=tvix`, async ({ blobs }) => {
      const [kept, ...refused] = [good, bad, forgotten].map((one) => blobs.put(one));
      const codes = await Promise.all(refused.map(codeOf));
      expect([codes, (await kept)?.size]).toEqual([['FAILED_PRECONDITION', 'DATA_LOSS'], good.length]);
    });
    server.close();
  });

  test('go one by one to a peer whose batches are shorter than they may be', async () => {
    const take = (request: Buffer | undefined) => {
      const digest = Digest.hash(BLOB.put.request.decode(request!).data!);
      return [BLOB.put.response.encode({ digest: digest.bytes })];
    };
    const server = await takingBatches(() => ({}), { 'BlobService/Put': take }, 1000);
    await using(`${server.url}?protocol=tvix`, ({ blobs }) =>
      Promise.all(SMALL.slice(0, 10).map((one) => blobs.put(one))),
    );
    expect(server.calls.get('BlobService/Put')).toBe(10);
    expect(server.calls.get('ContentAddressableStorage/BatchUpdateBlobs')).toBeUndefined();
    server.close();
  });

  test('are given up one by one, too', async () => {
    const release = Promise.withResolvers<void>();
    const server = await takingBatches(() => ({}));
    const answer = server.script['ContentAddressableStorage/BatchUpdateBlobs']!;
    server.script['ContentAddressableStorage/BatchUpdateBlobs'] = async (...requests) => {
      await release.promise;
      return answer(...requests);
    };
    await using(`${server.url}?protocol=tvix`, async ({ blobs }) => {
      const stop = new AbortController();
      const [first, second] = SMALL.slice(0, 2);
      const stopped = expect(blobs.put(first!, { signal: stop.signal })).rejects.toThrow('enough');
      const kept = blobs.put(second!);
      setTimeout(() => stop.abort(new Error('enough')), 200);
      await stopped;
      release.resolve();
      expect((await kept).size).toBe(second!.length);
    });
    server.close();
  });
});
