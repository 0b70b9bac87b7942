import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import type { Directory } from '../../src/castore/directory.ts';
import { tvix } from '../../src/proto/messages.ts';
import { decodePathInfo, encodePathInfo } from '../../src/store/path-info/message.ts';
import { toHex } from '../../src/util/bytes.ts';
import { directoryOf, EMPTY } from '../contract/directories.ts';
import { pathInfo } from '../contract/path-infos.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { describeFacts, facts } from '../helpers/facts.ts';
import { counterBytes, randomBytes } from '../helpers/random.ts';
import { type Answer, RawClient } from '../helpers/raw-grpc.ts';
import { localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const { castore, store } = tvix;
const {
  BlobChunk,
  GetDirectoryRequest,
  Node,
  PutBlobResponse,
  PutDirectoryResponse,
  ReadBlobRequest,
  StatBlobRequest,
} = castore.v1;
const { CalculateNARResponse, GetPathInfoRequest, PathInfo } = store.v1;

const STAT = '/tvix.castore.v1.BlobService/Stat';
const READ = '/tvix.castore.v1.BlobService/Read';
const PUT_BLOB = '/tvix.castore.v1.BlobService/Put';
const GET_DIRECTORY = '/tvix.castore.v1.DirectoryService/Get';
const PUT_DIRECTORY = '/tvix.castore.v1.DirectoryService/Put';
const GET_PATH_INFO = '/tvix.store.v1.PathInfoService/Get';
const PUT_PATH_INFO = '/tvix.store.v1.PathInfoService/Put';
const CALCULATE_NAR = '/tvix.store.v1.PathInfoService/CalculateNAR';
const LIST = '/tvix.store.v1.PathInfoService/List';
const METHODS = [
  STAT,
  READ,
  PUT_BLOB,
  GET_DIRECTORY,
  PUT_DIRECTORY,
  GET_PATH_INFO,
  PUT_PATH_INFO,
  CALCULATE_NAR,
  LIST,
];

const dir = tempDir();
let daemon: TestDaemon;
let client: RawClient;

beforeAll(async () => {
  daemon = await startDaemon(`local://${dir}/store`);
  client = new RawClient(daemon.at);
});
afterAll(async () => {
  client.close();
  await daemon.stop('SIGKILL');
});

const call = (path: string, ...requests: Uint8Array[]) => client.call(path, ...requests);
const stat = (digest: Uint8Array) => call(STAT, StatBlobRequest.encode({ digest }).finish());
const read = (digest: Uint8Array) => call(READ, ReadBlobRequest.encode({ digest }).finish());
const putBlob = (...parts: Uint8Array[]) =>
  call(PUT_BLOB, ...parts.map((data) => BlobChunk.encode({ data }).finish()));
const getDirectory = (digest: Uint8Array, recursive = false) =>
  call(GET_DIRECTORY, GetDirectoryRequest.encode({ digest, recursive }).finish());
const putDirectories = (...list: Directory[]) => call(PUT_DIRECTORY, ...list.map(({ bytes }) => bytes));
const getPathInfo = (byOutputHash: Uint8Array) =>
  call(GET_PATH_INFO, GetPathInfoRequest.encode({ byOutputHash }).finish());
const calculateNar = (node: tvix.castore.v1.INode) => call(CALCULATE_NAR, Node.encode(node).finish());
const NOWHERE = new Uint8Array(32).fill(0xff);
const NOTHING = new Uint8Array(0);

async function blobDigest(...parts: Uint8Array[]): Promise<Uint8Array> {
  const { code, messages } = await putBlob(...parts);
  expect(code).toBe('OK');
  return PutBlobResponse.decode(messages[0]!).digest;
}

describe('the status of a call', () => {
  const missing = directoryOf({ missing: 'nowhere' });
  const leaf = directoryOf({ leaf: 'x' });
  const other = directoryOf({ other: 'x' });
  const link = { symlink: { target: Buffer.from('somewhere') } };
  const badInfo = (change: (info: tvix.store.v1.IPathInfo) => void) => {
    const info = PathInfo.decode(encodePathInfo(pathInfo('changed')));
    change(info);
    return call(PUT_PATH_INFO, PathInfo.encode(info).finish());
  };

  const CASES: Record<string, [expected: string, work: () => Promise<Answer>]> = {
    'Blob.Stat of what is not there': ['NOT_FOUND', () => stat(NOWHERE)],
    'Blob.Read of what is not there': ['NOT_FOUND', () => read(NOWHERE)],
    'Blob.Put of nothing, the empty blob': ['OK', () => putBlob()],
    'Blob.Put of empty messages': ['OK', () => putBlob(NOTHING, NOTHING)],
    'Directory.Get of what is not there': ['NOT_FOUND', () => getDirectory(NOWHERE)],
    'Directory.Get below what is not there': ['OK', () => getDirectory(NOWHERE, true)],
    'Directory.Get by nothing': ['INVALID_ARGUMENT', () => call(GET_DIRECTORY, NOTHING)],
    'Directory.Put of nothing': ['INVALID_ARGUMENT', () => call(PUT_DIRECTORY)],
    'Directory.Put of the empty directory': ['OK', () => putDirectories(EMPTY)],
    'Directory.Put of one that refers to another': [
      'INVALID_ARGUMENT',
      () => putDirectories(directoryOf({ missing })),
    ],
    'Directory.Put, root first': ['INVALID_ARGUMENT', () => putDirectories(directoryOf({ leaf }), leaf)],
    'Directory.Put with two roots': ['INVALID_ARGUMENT', () => putDirectories(leaf, other)],
    'Directory.Put with a wrong size': [
      'INVALID_ARGUMENT',
      () => putDirectories(leaf, directoryOf({ leaf }, 1n)),
    ],
    'Directory.Put with the documented size': ['OK', () => putDirectories(leaf, directoryOf({ leaf }, -1n))],
    'PathInfo.Get of what is not there': ['NOT_FOUND', () => getPathInfo(new Uint8Array(20).fill(0xff))],
    'PathInfo.Get by nothing': ['UNIMPLEMENTED', () => call(GET_PATH_INFO, NOTHING)],
    'PathInfo.Put of an empty message': ['INVALID_ARGUMENT', () => call(PUT_PATH_INFO, NOTHING)],
    'PathInfo.Put without narinfo': [
      'INVALID_ARGUMENT',
      () =>
        badInfo((info) => {
          info.narinfo = null;
        }),
    ],
    'PathInfo.Put with a short signature': [
      'INVALID_ARGUMENT',
      () =>
        badInfo((info) => {
          info.narinfo!.signatures = [{ name: 'x', data: new Uint8Array(63) }];
        }),
    ],
    'PathInfo.Put with a reference and no name of it': [
      'INVALID_ARGUMENT',
      () =>
        badInfo((info) => {
          info.references!.push(new Uint8Array(20));
        }),
    ],
    'PathInfo.Put with an unknown kind of content address': [
      'INVALID_ARGUMENT',
      () =>
        badInfo((info) => {
          Object.assign(info.narinfo!.ca!, { type: 99 });
        }),
    ],
    'CalculateNAR of a link': ['OK', () => calculateNar(link)],
    'CalculateNAR of nothing': ['INVALID_ARGUMENT', () => call(CALCULATE_NAR, NOTHING)],
    'CalculateNAR of a node with a name': [
      'INVALID_ARGUMENT',
      () => calculateNar({ symlink: { ...link.symlink, name: Buffer.from('name') } }),
    ],
    'CalculateNAR of an empty link': ['INVALID_ARGUMENT', () => calculateNar({ symlink: {} })],
    'CalculateNAR of a blob that is not there': [
      'DATA_LOSS',
      () => calculateNar({ file: { digest: NOWHERE, size: 1 } }),
    ],
    'CalculateNAR of a directory that is not there': [
      'DATA_LOSS',
      () => calculateNar({ directory: { digest: NOWHERE, size: 1 } }),
    ],
    'CalculateNAR of a blob of another size': [
      'DATA_LOSS',
      async () => calculateNar({ file: { digest: await blobDigest(Buffer.from('four')), size: 5 } }),
    ],
    'a method that does not exist': ['UNIMPLEMENTED', () => call('/tvix.castore.v1.BlobService/Steal')],
    'a service that does not exist': ['UNIMPLEMENTED', () => call('/tvix.castore.v9.BlobService/Stat')],
  };
  test.each(Object.entries(CASES))('%s', async (_name, [expected, work]) => {
    const { code, details, messages } = await work();
    expect(code, details).toBe(expected);
    if (expected !== 'OK') {
      expect(messages).toEqual([]);
      expect(details).not.toBe('');
    }
  });

  test.each([0, 1, 31, 33, 64])('a digest of %i bytes', async (length) => {
    const digest = randomBytes(length, length);
    const digestOfKind = { file: { digest, size: 1 } };
    const answers = [
      await stat(digest),
      await read(digest),
      await getDirectory(digest),
      await getDirectory(digest, true),
      await getPathInfo(digest),
      await calculateNar(digestOfKind),
    ];
    expect(answers.map(({ code }) => code)).toEqual(answers.map(() => 'INVALID_ARGUMENT'));
  });

  test('of what the store has lost is DATA_LOSS, in the middle of a stream too', async () => {
    const lossy = tempDir();
    const served = localStore(`${lossy}/store`);
    const contents = randomBytes(2 << 20, 'lost');
    const { digest } = await served.blobs.put(contents);
    await served.blobs.flush();
    const root = directoryOf({ missing });
    await served.directories.put(root);
    await served.directories.flush();
    await served.close();
    const lossyDaemon = await startDaemon(`local://${lossy}/store`);
    const lossyClient = new RawClient(lossyDaemon.at);
    rmSync(join(lossy, 'store/chunks'), { recursive: true });
    const readAll = await lossyClient.call(READ, ReadBlobRequest.encode({ digest: digest.bytes }).finish());
    const request = { digest: root.digest.bytes, recursive: true };
    const closure = await lossyClient.call(GET_DIRECTORY, GetDirectoryRequest.encode(request).finish());
    const blob = { file: { digest: digest.bytes, size: contents.length } };
    const nar = await lossyClient.call(CALCULATE_NAR, Node.encode(blob).finish());
    lossyClient.close();
    await lossyDaemon.stop('SIGKILL');
    expect([readAll.code, closure.code, nar.code]).toEqual(['DATA_LOSS', 'DATA_LOSS', 'DATA_LOSS']);
    expect(closure.messages.map(toHex)).toEqual([toHex(root.bytes)]);
  });
});

describe('bytes that are no message', () => {
  /** What a client that sends nonsense may hear; a blob or a listing may make sense of it. */
  const FAULTS = ['OK', 'INVALID_ARGUMENT', 'NOT_FOUND', 'UNIMPLEMENTED'];
  const GARBAGE = [
    Buffer.from([0xff]),
    Buffer.from([0x0a]),
    Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
    Buffer.from([0x0a, 0x20, 1, 2, 3]),
    Buffer.from([0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    Buffer.alloc(3000, 0x0b),
    Buffer.alloc(3000, 0x0a),
    ...Array.from({ length: 60 }, (_, i) => randomBytes(1 + i * 7, `garbage ${i}`)),
  ];

  test.each(METHODS)('%s refuses them as the fault of the client', async (path) => {
    const answers = await Promise.all(GARBAGE.map((bytes) => call(path, bytes)));
    for (const [i, { code, details }] of answers.entries())
      expect(FAULTS, `${GARBAGE[i]!.toString('hex')}: ${details}`).toContain(code);
    if (path !== LIST) expect(answers.map(({ code }) => code)).toContain('INVALID_ARGUMENT');
  });

  test('in the middle of an upload end it, and nothing of it is kept', async () => {
    const part = randomBytes(1000, 'before the garbage');
    const message = BlobChunk.encode({ data: part }).finish();
    expect((await call(PUT_BLOB, message, Buffer.from([0x0a, 0xff]))).code).toBe('INVALID_ARGUMENT');
    expect((await stat(Digest.hash(part).bytes)).code).toBe('NOT_FOUND');
    const leaf = directoryOf({ before: 'garbage' });
    expect((await call(PUT_DIRECTORY, leaf.bytes, Buffer.from([0x0a, 0xff]))).code).toBe('INVALID_ARGUMENT');
  });
});

describe('what is put comes back', () => {
  test('a directory is canonical afterwards, whatever it was encoded like', async () => {
    const canonical = directoryOf({ canonical: 'x' });
    const unknownField = Buffer.concat([canonical.bytes, Buffer.from([0x98, 0x06, 0x01])]);
    const { code, messages } = await call(PUT_DIRECTORY, unknownField);
    expect(code).toBe('OK');
    expect(toHex(PutDirectoryResponse.decode(messages[0]!).rootDigest)).toBe(canonical.digest.hex);
    const got = await getDirectory(canonical.digest.bytes);
    expect(got.messages.map(toHex)).toEqual([toHex(canonical.bytes)]);
  });

  test('a directory of 100 000 entries', async () => {
    const large = directoryOf(
      Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`entry-${i}`, `target of ${i}`])),
    );
    expect((await putDirectories(large)).code).toBe('OK');
    const { messages } = await getDirectory(large.digest.bytes);
    expect(messages.length).toBe(1);
    expect(messages[0]!.equals(large.bytes)).toBe(true);
  });
});

/** What each fact calls for, and where ours differs on purpose. */
const STATUS_FACTS: Record<string, { work: () => Promise<Answer>; ours?: string }> = {
  blob_stat_bad_digest_len: { work: () => stat(randomBytes(31)) },
  blob_read_bad_digest_len: { work: () => read(randomBytes(31)) },
  blob_stat_missing: { work: () => stat(NOWHERE) },
  blob_read_missing: { work: () => read(NOWHERE) },
  dir_get_bad_digest_len: { work: () => getDirectory(randomBytes(31)) },
  dir_get_missing_nonrecursive: { work: () => getDirectory(NOWHERE) },
  dir_get_no_by_what: { work: () => call(GET_DIRECTORY, NOTHING) },
  // A client's fault is INVALID_ARGUMENT with us.
  dir_put_empty_stream: { work: () => call(PUT_DIRECTORY), ours: 'INVALID_ARGUMENT' },
  calculate_nar_named_or_invalid_node: { work: () => call(CALCULATE_NAR, NOTHING) },
  castore_Error_InvalidRequest: { work: () => call(PUT_PATH_INFO, NOTHING) },
  castore_Error_StorageError: { work: () => calculateNar({ file: { digest: NOWHERE, size: 1 } }) },
};

describeFacts('grpc_status', (all) => {
  for (const { name, expected } of all) {
    const fact = STATUS_FACTS[name];
    // A fault of the disk or the database cannot be made from outside; DATA_LOSS is tested above.
    if (!fact) test.skip(`${name} (not to be made from outside)`);
    else
      test(name, async () => {
        expect((await fact.work()).code).toBe(fact.ours ?? /^[A-Z_]+/.exec(expected.code)![0]);
      });
  }
});

describeFacts('grpc_calculate_nar', (all) => {
  test.each(all)('$name', async ({ input, expected }) => {
    await blobDigest(Buffer.from('Hello World!'));
    const { code, messages } = await call(CALCULATE_NAR, Buffer.from(input.node_proto_hex, 'hex'));
    expect(code).toBe('OK');
    const { narSize, narSha256 } = CalculateNARResponse.decode(messages[0]!);
    expect(Number(narSize)).toBe(expected.nar_size);
    expect(toHex(narSha256)).toBe(expected.nar_sha256_hex);
  });
});

/** The directories of the facts, by the names that they have there. */
const A = EMPTY;
const FIXTURES: Record<string, Directory> = {
  A,
  B: directoryOf({ a: A }),
  C: directoryOf({ a: A, "a'": A }),
  '{foo: A with size+42}': directoryOf({ foo: A }, 42n),
  BROKEN: directoryOf({ foo: A }, 42n),
};

describeFacts('directory_put_order', (all) => {
  test.each(all)('$name', async ({ input, expected }) => {
    const list = (input.stream as string[]).map((name) => FIXTURES[name]!);
    const { code, messages } = await putDirectories(...list);
    expect(code).toBe(expected.ok ? 'OK' : 'INVALID_ARGUMENT');
    if (expected.ok)
      expect(toHex(PutDirectoryResponse.decode(messages[0]!).rootDigest)).toBe(list.at(-1)!.digest.hex);
  });
});

describeFacts('directory_get_recursive_order', (all) => {
  // What a client accepts is tested in lies.test.ts; here is what the daemon sends.
  for (const { name, input, expected } of all) {
    if (expected.accept === false) continue;
    test(name, async () => {
      const names: string[] = input.received ?? [];
      const list = names.map((of) => FIXTURES[of]!);
      if (list.length > 0) await putDirectories(...list.toReversed());
      const { code, messages } = await getDirectory(list[0]?.digest.bytes ?? NOWHERE, true);
      expect(code).toBe('OK');
      expect(messages.map(toHex)).toEqual(list.map(({ bytes }) => toHex(bytes)));
    });
  }
});

describeFacts('castore_directory', (all) => {
  /** Children that a fixture refers to come before it. */
  const empty = Buffer.from(A.bytes);
  const WITH_KEEP = all.length > 0 ? keepDirectory() : empty;
  const NESTED: Record<string, Buffer[]> = {
    DIRECTORY_A: [],
    DIRECTORY_B: [empty],
    DIRECTORY_COMPLICATED: [WITH_KEEP],
  };
  const golden = all
    .filter(({ name }) => NESTED[name])
    .flatMap(({ name, expected }) =>
      ['spec_size', 'rust_2024_2025_size_quirk'].map((counting) => ({
        name,
        counting,
        ...expected[counting],
      })),
    );
  test.each(golden)('$name, $counting: the same bytes come back', async (fact) => {
    const bytes = Buffer.from(fact.proto_hex, 'hex');
    const { code, details, messages } = await call(PUT_DIRECTORY, ...NESTED[fact.name]!, bytes);
    expect(code, details).toBe('OK');
    expect(messages[0]!.toString('hex')).toBe(`0a20${fact.blake3_hex}`);
    const got = await getDirectory(Buffer.from(fact.blake3_hex, 'hex'));
    expect(got.messages.map(toHex)).toEqual([fact.proto_hex]);
  });
});

/** `{.keep: empty file}`. */
function keepDirectory(): Buffer {
  const file = { name: Buffer.from('.keep'), digest: Digest.hash(NOTHING).bytes };
  return Buffer.from(castore.v1.Directory.encode({ files: [file] }).finish());
}

describeFacts('pathinfo_proto', (all) => {
  test.each(all)('$name: the same bytes come back', async ({ expected }) => {
    const bytes = Buffer.from(expected.proto_hex, 'hex');
    const put = await call(PUT_PATH_INFO, bytes);
    // Contents that nobody can have are missed; that the bytes are kept is tested where they are decoded.
    if (decodePathInfo(bytes).node.kind !== 'symlink') {
      expect(put).toMatchObject({ code: 'FAILED_PRECONDITION' });
      return;
    }
    expect(put).toMatchObject({ code: 'OK' });
    expect(put.messages.map(toHex)).toEqual([expected.proto_hex]);
    const got = await getPathInfo(new Uint8Array(20));
    expect(got.messages.map(toHex)).toEqual([expected.proto_hex]);
  });
});

describeFacts('objectstore_layout', () => {
  const fact = facts('objectstore_layout').find(({ name }) => name === 'stat_blob_response_4MiB');
  test.skipIf(!fact)('Blob.Stat gives the golden chunk list', async () => {
    const contents = counterBytes(4 << 20);
    const parts = Array.from({ length: 16 }, (_, i) => contents.subarray(i << 18, (i + 1) << 18));
    const digest = await blobDigest(...parts);
    const { messages } = await stat(digest);
    expect(messages.map(toHex)).toEqual([fact!.expected.proto_hex]);
  });
});
