import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { tvix } from '../../src/proto/messages.ts';
import { encodePathInfo } from '../../src/store/path-info/message.ts';
import { toHex } from '../../src/util/bytes.ts';
import { directoryOf, EMPTY } from '../contract/directories.ts';
import { pathInfo } from '../contract/path-infos.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { randomBytes } from '../helpers/random.ts';
import {
  blobDigest,
  CALCULATE_NAR,
  calculateNar,
  call,
  GET_DIRECTORY,
  GET_PATH_INFO,
  getDirectory,
  getPathInfo,
  LIST,
  METHODS,
  NOTHING,
  NOWHERE,
  PUT_BLOB,
  PUT_DIRECTORY,
  PUT_PATH_INFO,
  putBlob,
  putDirectories,
  READ,
  read,
  stat,
} from '../helpers/raw-daemon.ts';
import { type Answer, RawClient } from '../helpers/raw-grpc.ts';
import { localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const { BlobChunk, GetDirectoryRequest, Node, PutDirectoryResponse, ReadBlobRequest } = tvix.castore.v1;
const { PathInfo } = tvix.store.v1;

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
