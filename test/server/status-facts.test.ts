import { expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import type { Directory } from '../../src/castore/directory.ts';
import { tvix } from '../../src/proto/messages.ts';
import { decodePathInfo } from '../../src/store/path-info/message.ts';
import { toHex } from '../../src/util/bytes.ts';
import { directoryOf, EMPTY } from '../contract/directories.ts';
import { describeFacts, facts } from '../helpers/facts.ts';
import { counterBytes, randomBytes } from '../helpers/random.ts';
import {
  blobDigest,
  CALCULATE_NAR,
  calculateNar,
  call,
  GET_DIRECTORY,
  getDirectory,
  getPathInfo,
  NOTHING,
  NOWHERE,
  PUT_DIRECTORY,
  PUT_PATH_INFO,
  putDirectories,
  read,
  STAT,
  stat,
} from '../helpers/raw-daemon.ts';
import type { Answer } from '../helpers/raw-grpc.ts';

const { PutDirectoryResponse, StatBlobRequest, StatBlobResponse } = tvix.castore.v1;
const { CalculateNARResponse } = tvix.store.v1;

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
  return Buffer.from(tvix.castore.v1.Directory.encode({ files: [file] }).finish());
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

test('Blob.Stat gives the outboard of whoever asks for it, as other programs make it', async () => {
  const contents = Uint8Array.from({ length: 16_385 }, (_, i) => i % 251);
  const digest = await blobDigest(contents);
  const [answer] = (await call(STAT, StatBlobRequest.encode({ digest, sendBao: true }).finish())).messages;
  expect(toHex(StatBlobResponse.decode(answer!).bao)).toBe(
    '5384f9b342c6cb86badedcbe662b0e980476a8db17db3cc1f13b19329749ab1f' +
      '7eec20c857faf93c8102396e3b2ea90bcdf693ebd5cbd77211e5f606d72bc1a5',
  );
  const [without] = (await stat(digest)).messages;
  expect(StatBlobResponse.decode(without!).bao.length).toBe(0);
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
