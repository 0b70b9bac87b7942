import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import type { Directory } from '../../src/castore/directory.ts';
import { tvix } from '../../src/proto/messages.ts';
import { encodePathInfo } from '../../src/store/path-info/message.ts';
import type { Store } from '../../src/store/services.ts';
import { directoryOf } from '../contract/directories.ts';
import { pathInfo } from '../contract/path-infos.ts';
import { openAt } from '../helpers/daemon.ts';
import { facts } from '../helpers/facts.ts';
import { randomBytes } from '../helpers/random.ts';
import { chunk, chunkList, GET, READ, reads, STAT } from '../helpers/scripted-blobs.ts';
import type { ScriptedServer } from '../helpers/scripted-server.ts';
import { scriptedServer } from '../helpers/scripted-server.ts';
import { all, codeOf, readBlob } from '../helpers/services.ts';

const { PutBlobResponse, PutDirectoryResponse, ReadBlobRequest, StatBlobResponse } = tvix.castore.v1;

describe('a client of a server that lies', () => {
  let server: ScriptedServer;
  let store: Store;

  beforeAll(async () => {
    server = await scriptedServer({});
    store = await openAt(`${server.url}?protocol=tvix`);
  });
  afterAll(async () => {
    await store.close();
    server.close();
  });
  beforeEach(() => {
    for (const key of Object.keys(server.script)) delete server.script[key];
  });

  /** That work is refused as a lie, in words that name who told it. */
  async function caught(work: () => Promise<unknown>): Promise<void> {
    let error: Error | undefined;
    try {
      await work();
    } catch (thrown) {
      error = thrown as Error;
    }
    expect(error?.message).toContain(server.url);
    expect(await codeOf(Promise.reject(error))).toBe('DATA_LOSS');
  }

  describe('about blobs', () => {
    const right = randomBytes(300_000, 'right');
    const digest = Digest.hash(right);
    const flipped = Buffer.from(right);
    flipped[200_000]! ^= 1;
    const [head, tail] = [right.subarray(0, 150_000), right.subarray(150_000)];

    const LIES: Record<string, Uint8Array[]> = {
      'other bytes': [chunk(flipped)],
      less: [chunk(head)],
      more: [chunk(right), chunk(Buffer.from([0]))],
      nothing: [],
      'the parts in another order': [chunk(tail), chunk(head)],
    };
    test.each(Object.entries(LIES))('that sends %s', async (_what, messages) => {
      server.script[READ] = () => messages;
      await caught(() => readBlob(store, digest));
    });

    test.each(Object.entries(LIES))(
      'that sends %s to one who begins in the middle',
      async (_what, messages) => {
        server.script[STAT] = () => [StatBlobResponse.encode({}).finish()];
        server.script[READ] = () => messages;
        await caught(() => readBlob(store, digest, 1000));
      },
    );

    test('whose chunks are right and the whole is not, to one who begins in the middle', async () => {
      server.script[STAT] = () => chunkList(tail, head);
      server.script[READ] = (request) => {
        const wanted = Digest.of(ReadBlobRequest.decode(request).digest);
        return wanted.equals(digest) ? [chunk(tail), chunk(head)] : reads(head, tail)(request);
      };
      await caught(() => readBlob(store, digest, 1000));
    });

    test('whose chunks have another size than it says', async () => {
      server.script[STAT] = () => [
        StatBlobResponse.encode({
          chunks: [
            { digest: Digest.hash(head).bytes, size: 1000 },
            { digest: Digest.hash(tail).bytes, size: right.length - 1000 },
          ],
        }).finish(),
      ];
      server.script[READ] = (request) => {
        const wanted = Digest.of(ReadBlobRequest.decode(request).digest);
        return wanted.equals(digest) ? [chunk(flipped)] : reads(head, tail)(request);
      };
      await caught(() => readBlob(store, digest, 2000));
    });

    test.each([0, 31, 33])('whose list has a chunk with a digest of %i bytes', async (length) => {
      const chunks = [{ digest: new Uint8Array(length), size: 1 }];
      server.script[STAT] = () => [StatBlobResponse.encode({ chunks }).finish()];
      await caught(() => store.blobs.chunks(digest));
    });

    test('that says it stored something else', async () => {
      server.script['BlobService/Put'] = () => [
        PutBlobResponse.encode({ digest: Digest.hash(flipped).bytes }).finish(),
      ];
      await caught(() => store.blobs.put(right));
      await caught(() => store.blobs.put(head.subarray(0, 10)));
      await caught(() => store.blobs.put([head, tail]));
    });
  });

  describe('about directories', () => {
    const leaf = directoryOf({ leaf: 'x' });
    const other = directoryOf({ other: 'x' });
    const child = directoryOf({ leaf });
    const root = directoryOf({ child, leaf });
    const wrongSize = directoryOf({ leaf }, 1n);
    const bytesOf = (...list: Directory[]) => list.map(({ bytes }) => bytes);

    const SINGLE: Record<string, Uint8Array[]> = {
      'another directory': bytesOf(other),
      two: bytesOf(leaf, other),
      'the same twice': bytesOf(leaf, leaf),
      garbage: [Buffer.from([0x0a, 0xff])],
      'a directory whose name is not one': [
        tvix.castore.v1.Directory.encode({
          symlinks: [{ name: Buffer.from('a/b'), target: Buffer.from('x') }],
        }).finish(),
      ],
    };
    test.each(Object.entries(SINGLE))('that sends %s for one', async (_what, messages) => {
      server.script[GET] = () => messages;
      await caught(() => store.directories.get(leaf.digest));
    });

    const CLOSURES: Record<string, [Directory, Uint8Array[]]> = {
      'another root': [root, bytesOf(other)],
      'leaves first': [root, bytesOf(leaf, child, root)],
      'one that nothing refers to': [root, bytesOf(root, child, leaf, other)],
      'a grandchild before what refers to it': [
        directoryOf({ child }),
        bytesOf(directoryOf({ child }), leaf, child),
      ],
      'one twice': [root, bytesOf(root, child, leaf, leaf)],
      'the root twice': [root, bytesOf(root, root, child, leaf)],
      'too few': [root, bytesOf(root, child)],
      'only the root': [root, bytesOf(root)],
      'a wrong size': [wrongSize, bytesOf(wrongSize, leaf)],
      'garbage in the middle': [root, [root.bytes, Buffer.from([0x0a, 0xff]), child.bytes, leaf.bytes]],
    };
    test.each(Object.entries(CLOSURES))('that sends %s in a closure', async (_what, [asked, messages]) => {
      server.script[GET] = () => messages;
      await caught(() => all(store.directories.getRecursive(asked.digest)));
    });

    test('is not suspected without reason', async () => {
      server.script[GET] = () => bytesOf(root, leaf, child);
      expect((await all(store.directories.getRecursive(root.digest))).length).toBe(3);
      const documented = directoryOf({ leaf }, -1n);
      server.script[GET] = () => bytesOf(documented, leaf);
      expect((await all(store.directories.getRecursive(documented.digest))).length).toBe(2);
    });

    test('that says it stored something else', async () => {
      server.script['DirectoryService/Put'] = () => [
        PutDirectoryResponse.encode({ rootDigest: other.digest.bytes }).finish(),
      ];
      await caught(() => store.directories.put(leaf));
      await caught(async () => {
        const putter = store.directories.putMany();
        await putter.add(leaf);
        await putter.close();
      });
    });

    const EMPTY = directoryOf({});
    const FIXTURES: Record<string, Directory> = {
      A: EMPTY,
      B: directoryOf({ a: EMPTY }),
      BROKEN: directoryOf({ foo: EMPTY }, 42n),
    };
    const orders = facts('directory_get_recursive_order').filter(({ input }) => input.received);
    test.each(orders)('conformance fact: $name', async ({ input, expected }) => {
      server.script[GET] = () => bytesOf(...input.received.map((name: string) => FIXTURES[name]!));
      const closure = () => all(store.directories.getRecursive(FIXTURES[input.requested_root]!.digest));
      if (expected.accept) expect((await closure()).length).toBe(input.received.length);
      else await caught(closure);
    });
  });

  describe('about path infos', () => {
    const info = pathInfo('honest');

    test('that sends the one of another path', async () => {
      server.script['PathInfoService/Get'] = () => [encodePathInfo(pathInfo('other'))];
      await caught(() => store.pathInfos.get(info.storePath.hash));
    });

    test.each(['Get', 'Put', 'List'])('that answers %s with an invalid one', async (method) => {
      const message = tvix.store.v1.PathInfo.decode(encodePathInfo(info));
      message.narinfo!.narSha256 = new Uint8Array(31);
      server.script[`PathInfoService/${method}`] = () => [tvix.store.v1.PathInfo.encode(message).finish()];
      const work = {
        Get: () => store.pathInfos.get(info.storePath.hash),
        Put: () => store.pathInfos.put(info),
        List: () => all(store.pathInfos.list()),
      };
      await caught(work[method as keyof typeof work]);
    });

    test('that says it stored the one of another path', async () => {
      server.script['PathInfoService/Put'] = () => [encodePathInfo(pathInfo('other'))];
      await caught(() => store.pathInfos.put(info));
    });
  });
});
