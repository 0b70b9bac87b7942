import { crc32 } from 'node:zlib';
import { ParallelSha256 } from '../../nix/nar/parallel-sha256.ts';
import { MAGIC } from '../../nix/nar/tokens.ts';
import { beginOf } from '../../util/async/iterables.ts';
import { asBuffer } from '../../util/bytes.ts';
import { decompress } from '../../util/compression/decompress.ts';
import { invalid, isDamage, messageOf, StoreError } from '../../util/errors.ts';
import type { IngestedNar } from '../nar/ingest.ts';
import { ingestNar } from '../nar/ingest.ts';
import type { Services } from '../services.ts';
import { keptNar } from '../side-files/name.ts';
import { SideFileTable } from '../side-files/table.ts';
import type { StoredFormat } from './stored.ts';
import type { UploadTables } from './tables.ts';

type Bytes = AsyncIterable<Uint8Array>;

/** What uploads are compressed by. In bzip2 nothing can be stored as it is: such a file is kept as it came. */
export type UploadedCompression = StoredFormat | 'bzip2';

/** A file with a NAR in it that somebody uploads. */
export interface NarFile {
  /** The expected hash of the file. */
  readonly sha256: Uint8Array;
  /** `undefined` to find out: files that end in `.nar` may be compressed. */
  readonly compression: UploadedCompression | undefined;
  readonly bytes: Bytes;
}

/**
 * Takes a NAR into the store, to be known by its hash, and a compressed one by that of the file, too. When this
 * resolves, all of it is durable. Throws INVALID_ARGUMENT for a file with another hash, or without a NAR in it,
 * and UNIMPLEMENTED for a compression that is not taken.
 */
export async function takeNar(
  store: Services,
  tables: UploadTables,
  file: NarFile,
  signal?: AbortSignal,
): Promise<void> {
  const [begin, bytes] = await beginOf(file.bytes, MAGIC.length);
  const compression = file.compression ?? compressionOf(begin);
  let nar: IngestedNar;
  if (!compression) {
    nar = await ingestNar(bytes, store, { signal });
    checkHash(file, nar.narSha256);
  } else if (compression === 'bzip2') {
    nar = await takeKept(store, tables, { ...file, bytes }, signal);
  } else {
    const sha256 = new ParallelSha256();
    try {
      let sum = 0;
      const contents = through(
        unpacked(
          compression,
          through(bytes, (part) => sha256.update(part)),
        ),
        (part) => {
          sum = crc32(part, sum);
        },
      );
      nar = await ingestNar(contents, store, { signal });
      checkHash(file, await sha256.digest());
      await tables.putFile(file.sha256, { compression, narSha256: nar.narSha256, crc32: sum });
    } finally {
      sha256.close();
    }
  }
  await store.directories.flush();
  await store.blobs.flush();
  await tables.nars.put(nar.narSha256, nar);
  await tables.store.writer.flush();
}

/** Takes a compressed NAR, and keeps the file beside what came out of it. */
async function takeKept(
  store: Services,
  tables: UploadTables,
  file: NarFile,
  signal: AbortSignal | undefined,
): Promise<IngestedNar> {
  const sha256 = new ParallelSha256();
  try {
    const hashed = through(file.bytes, (part) => sha256.update(part));
    const { digest, size } = await store.blobs.put(hashed, { signal });
    await store.blobs.flush();
    checkHash(file, await sha256.digest());
    const kept = await store.blobs.read(digest, { size, signal });
    if (!kept)
      throw new StoreError('UNAVAILABLE', 'the file that was uploaded has gone again; upload it again');
    const nar = await ingestNar(unpacked('bzip2', kept), store, { signal });
    const name = keptNar(file.sha256);
    await new SideFileTable(tables.store).put(name.text, { digest, size, owner: nar.narSha256 });
    return nar;
  } finally {
    sha256.close();
  }
}

function checkHash({ sha256 }: NarFile, found: Uint8Array): void {
  if (!asBuffer(found).equals(sha256)) throw invalid('the file has another SHA-256 than its name says');
}

async function* through(bytes: Bytes, see: (part: Uint8Array) => void): AsyncGenerator<Uint8Array> {
  for await (const part of bytes) {
    see(part);
    yield part;
  }
}

async function* unpacked(compression: UploadedCompression, bytes: Bytes): AsyncGenerator<Uint8Array> {
  try {
    yield* decompress(compression, bytes);
  } catch (error) {
    if (!isDamage(error)) throw error;
    throw invalid(messageOf(error), { cause: error });
  }
}

/** Finds the compression of a file that Nix calls `.nar`, whatever it contains. */
function compressionOf(begin: Buffer): 'gzip' | undefined {
  if (begin[0] === 0x1f && begin[1] === 0x8b) return 'gzip';
  const known = OTHERS.find(([, magic]) => begin.subarray(0, magic.length).equals(magic));
  if (known) throw new StoreError('UNIMPLEMENTED', `compression by ${known[0]} is not taken`);
  return undefined;
}

const OTHERS: readonly [name: string, magic: Buffer][] = [
  ['lzma', Buffer.from([0x5d, 0, 0])],
  ['compress', Buffer.from([0x1f, 0x9d])],
  ['lzop', Buffer.from([0x89, 0x4c, 0x5a, 0x4f])],
  ['grzip', Buffer.from('GRZip')],
  ['lrzip', Buffer.from('LRZI')],
];
