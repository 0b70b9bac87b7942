import type { BlobService } from '../../../castore/blob/service.ts';
import { Digest } from '../../../castore/digest.ts';
import { CAS, COMPRESSOR, MAX_ASKED, MAX_BATCH } from '../../../proto/grpc/methods.ts';
import { mapAhead } from '../../../util/async/iterables.ts';
import { Turns } from '../../../util/async/turns.ts';
import { collect } from '../../../util/bytes.ts';
import { zstdCompress, zstdDecompress } from '../../../util/compression/zstd.ts';
import { invalid, StoreError } from '../../../util/errors.ts';
import { statusOf } from '../call.ts';
import type { Implementation } from '../implementation.ts';
import { unary } from '../implementation.ts';
import { spliced } from '../kept-uploads.ts';
import { alwaysThere, hasOrEmpty } from './empty.ts';
import type { Named } from './named.ts';
import { chunkOf, digestIn, requireBlake3, sizeIn } from './named.ts';

/** Blobs of one call that are looked for, read or put at once. */
const AT_ONCE = 32;
/** What is shorter is sent as it is, in bytes. */
const LEAST_COMPRESSED = 512;

/** A blob in an upload of many. */
interface Update {
  digest?: Named | null;
  data?: Uint8Array | null;
  compressor?: number | null;
}

/** The storage of the Remote Execution API over the blobs of a store (protos/build). */
export function storageMethods(blobs: BlobService): Implementation[] {
  return [
    unary(CAS.findMissing, async ({ blobDigests, digestFunction }, signal) => {
      requireBlake3(digestFunction);
      requireAtMost(MAX_ASKED, blobDigests);
      const asked = new Map(blobDigests?.map((named) => [named.hash, named]));
      const missing = async (named: Named) =>
        (await hasOrEmpty(blobs, chunkOf(named), signal)) ? undefined : named;
      const answers = await each([...asked.values()], signal, missing);
      return { missingBlobDigests: answers.filter((one) => one !== undefined) };
    }),
    unary(CAS.batchUpdate, async ({ requests, digestFunction }, signal, { holding }) => {
      requireBlake3(digestFunction);
      requireInBounds(requests?.map(({ digest }) => digest));
      const compressed = requests?.filter(({ compressor }) => compressor) ?? [];
      await holding.take(totalOf(compressed.map(({ digest }) => digest)));
      const responses = await each(requests ?? [], signal, async (update) => ({
        digest: update.digest ?? null,
        status: await statusAfter(() => put(blobs, update, signal)),
      }));
      await blobs.flush();
      return { responses };
    }),
    unary(CAS.batchRead, async (request, signal, { holding }) => {
      requireBlake3(request.digestFunction);
      requireInBounds(request.digests);
      const room = totalOf(request.digests);
      await holding.take(room);
      const takesZstd = request.acceptableCompressors?.includes(COMPRESSOR.ZSTD) ?? false;
      const responses = await each(request.digests ?? [], signal, async (digest) => {
        let data: Uint8Array = new Uint8Array();
        const status = await statusAfter(async () => {
          data = await read(blobs, digest, signal);
        });
        return { digest, status, ...(takesZstd ? compressedIfShorter(data) : { data }) };
      });
      // It is counted again as the answer that is made of it.
      holding.give(room);
      return { responses };
    }),
    unary(CAS.splice, async ({ blobDigest, chunkDigests, digestFunction }, signal) => {
      requireBlake3(digestFunction);
      const chunks = chunkDigests?.map(({ hash }) => digestIn(hash ?? '')) ?? [];
      await spliced(blobs, digestIn(blobDigest?.hash ?? ''), chunks, signal);
      return { blobDigest: blobDigest ?? null };
    }),
  ];
}

function requireAtMost(most: number, digests: readonly unknown[] | null | undefined): void {
  if ((digests?.length ?? 0) > most) throw invalid(`want at most ${most} digests at once`);
}

function requireInBounds(digests: readonly (Named | null | undefined)[] | null | undefined): void {
  requireAtMost(MAX_ASKED, digests);
  if (totalOf(digests) > MAX_BATCH) throw invalid(`want at most ${MAX_BATCH} bytes of blobs at once`);
}

function totalOf(digests: readonly (Named | null | undefined)[] | null | undefined): number {
  return digests?.reduce((sum, named) => sum + sizeIn(named), 0) ?? 0;
}

/** Answers for each of many, in order. Others have their turn meanwhile. */
function each<T, R>(items: readonly T[], signal: AbortSignal, answer: (item: T) => Promise<R>): Promise<R[]> {
  const turns = new Turns(signal);
  const inTurn = async (item: T) => {
    if (turns.isDue) await turns.take();
    return answer(item);
  };
  return Array.fromAsync(mapAhead(items, AT_ONCE, inTurn));
}

/** How something ended that is a part of a call. */
async function statusAfter(work: () => Promise<void>): Promise<{ code?: number; message?: string }> {
  try {
    await work();
    return {};
  } catch (error) {
    const { code, details } = statusOf(error);
    return { code, message: details };
  }
}

async function put(
  blobs: BlobService,
  { digest: named, data, compressor }: Update,
  signal: AbortSignal,
): Promise<void> {
  const { digest, size } = chunkOf(named);
  const bytes = contentsOf(data ?? new Uint8Array(), compressor ?? COMPRESSOR.IDENTITY, size);
  if (bytes.length !== size || !Digest.hash(bytes).equals(digest))
    throw invalid(`the contents are not those of blob ${digest} of ${size} bytes`);
  await blobs.put(bytes, { digest, signal });
}

function contentsOf(data: Uint8Array, compressor: number, size: number): Uint8Array {
  if (compressor === COMPRESSOR.IDENTITY) return data;
  if (compressor !== COMPRESSOR.ZSTD) throw invalid('want contents as they are, or by zstd');
  try {
    return zstdDecompress(data, size);
  } catch (error) {
    throw error instanceof StoreError ? invalid(error.message, { cause: error }) : error;
  }
}

/** The size is the client's word, so that contents of another one say nothing of the store. */
async function read(blobs: BlobService, named: Named, signal: AbortSignal): Promise<Uint8Array> {
  const { digest, size } = chunkOf(named);
  const contents = alwaysThere(digest) ?? (await blobs.read(digest, { signal }));
  if (!contents) throw new StoreError('NOT_FOUND', `blob ${digest} not found`);
  const bytes = await collect(contents, size);
  if (bytes?.length !== size) throw invalid(`blob ${digest} has another size than ${size}`);
  return bytes;
}

function compressedIfShorter(data: Uint8Array): { data: Uint8Array; compressor?: number } {
  if (data.length < LEAST_COMPRESSED) return { data };
  const compressed = zstdCompress(data);
  return compressed.length < data.length ? { data: compressed, compressor: COMPRESSOR.ZSTD } : { data };
}
