import { LRUCache } from 'lru-cache';
import { outboardLength } from '../../castore/bao/shape.ts';
import { encodeChunkList, encodeOutboard } from '../../castore/blob/chunk-list.ts';
import type { BlobContent, BlobService } from '../../castore/blob/service.ts';
import { SINGLE_CHUNK_LIMIT } from '../../castore/blob/service.ts';
import { Digest } from '../../castore/digest.ts';
import { Directory } from '../../castore/directory.ts';
import { nodeFromMessage } from '../../castore/node-message.ts';
import { STORE_PATH_HASH_LENGTH } from '../../nix/store-path.ts';
import { BLOB, BLOB_MESSAGE_LENGTH, DIRECTORY, PATH_INFO } from '../../proto/grpc/methods.ts';
import { toLong } from '../../proto/long.ts';
import { keepTree } from '../../store/keeping/keep-tree.ts';
import { calculateNar } from '../../store/nar/calculate.ts';
import { pathInfoToMessage, takenPathInfo } from '../../store/path-info/message.ts';
import type { Services, Store } from '../../store/services.ts';
import { withSigns } from '../../util/async/signs.ts';
import { SingleFlight } from '../../util/async/single-flight.ts';
import { asBuffer } from '../../util/bytes.ts';
import { damaged, invalid, StoreError } from '../../util/errors.ts';
import { Scratch } from '../../util/scratch.ts';
import { FairLimiter } from '../shares/fair-limiter.ts';
import type { Implementation } from './implementation.ts';
import { clientStream, serverStream, unary } from './implementation.ts';
import { LARGE_PUT, putKept } from './kept-uploads.ts';
import { byteStreamMethods } from './remote/byte-stream.ts';
import { capabilities } from './remote/capabilities.ts';
import { storageMethods } from './remote/storage.ts';
import { SharedAnswer } from './shared-answer.ts';

/** NARs that are rendered and hashed at once; the next have to wait. */
const CALCULATIONS_AT_ONCE = 2;
/**
 * An answer to Stat of so many bytes is given again for a while, in milliseconds: to make it takes as much work and memory as
 * hundreds of small ones, and whoever asks for it once can ask for it all the time.
 */
const LARGE_ANSWER = 1 << 20;
const KEPT_MS = 10_000;
const MAX_KEPT = 32 << 20;
/**
 * What a read from another machine takes besides, in bytes: as much as its connection has on its way, which may be more of a
 * large blob, and is little of most.
 */
const FAR_READ = 1 << 20;
/** An outboard that is longer is not sent, in bytes: it is that of a blob of more than 4 GiB. */
const MAX_SENT_OUTBOARD = 16 << 20;

/**
 * The three services over a store (protocol.md 1.4, 1.5, 1.8), and its blobs as the Remote Execution API has them. A put is
 * answered when it is durable.
 */
export function implementations(store: Store): Implementation[] {
  return [
    ...blobMethods(store),
    capabilities(),
    ...storageMethods(store.blobs),
    ...byteStreamMethods(store),
    ...directoryMethods(store),
    ...pathInfoMethods(store),
  ];
}

function digestOf(bytes: Uint8Array | null | undefined): Digest {
  return Digest.of(bytes ?? new Uint8Array());
}

function notFound(what: string): StoreError {
  return new StoreError('NOT_FOUND', `${what} not found`);
}

function blobMethods({ blobs, far }: Store): Implementation[] {
  const stat = async (digest: Digest, { sendChunks, sendBao }: StatOptions, signal: AbortSignal) => {
    // Who does not ask for chunks wants to know whether to send it; they are told all the same, as by the Rust daemons.
    const isThere = sendChunks || (await blobs.has(digest, { signal }));
    const pieces = isThere ? await chunksInPieces(blobs, digest, signal) : undefined;
    if (!pieces) throw notFound(`blob ${digest}`);
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const piece of pieces) {
      parts.push(encodeChunkList(piece));
      for (const chunk of piece) size += chunk.size;
    }
    // An encoded message goes on where another ends.
    const isSent = sendBao && outboardLength(size) <= MAX_SENT_OUTBOARD;
    const outboard = isSent ? await outboardOf(blobs, digest, signal) : undefined;
    if (outboard) parts.push(encodeOutboard(outboard));
    return new SharedAnswer(parts);
  };
  const stats = new SingleFlight<SharedAnswer>();
  const kept = new LRUCache<string, SharedAnswer>({
    maxSize: MAX_KEPT,
    sizeCalculation: ({ length }) => length,
    ttl: KEPT_MS,
    ttlAutopurge: true,
  });
  return [
    unary(BLOB.stat, async (request, signal) => {
      const digest = digestOf(request.digest);
      const options = { sendChunks: request.sendChunks ?? false, sendBao: request.sendBao ?? false };
      const key = `${digest.hex} ${options.sendChunks} ${options.sendBao}`;
      const known = kept.get(key);
      if (known) return known;
      const answer = await stats.run(key, (shared) => stat(digest, options, shared), signal);
      if (answer.length >= LARGE_ANSWER) kept.set(key, answer);
      return answer;
    }),
    serverStream(BLOB.read, async function* (request, signal, { holding }): AsyncGenerator<BlobMessage> {
      const digest = digestOf(request.digest);
      if (far) await holding.take(FAR_READ);
      // What was sent last may still be on its way when the next is read.
      const contents = await blobs.read(digest, { scratch: new Scratch(2), signal });
      if (!contents) throw notFound(`blob ${digest}`);
      // A message without contents says that they are under way.
      for await (const part of withSigns<Uint8Array | undefined>(contents, undefined)) {
        if (!part) yield {};
        else
          for (let at = 0; at < part.length; at += BLOB_MESSAGE_LENGTH)
            yield { data: part.subarray(at, at + BLOB_MESSAGE_LENGTH) };
      }
    }),
    clientStream(BLOB.put, async (requests, signal, { holding }) => {
      const content = await contentOf(requests);
      if (!(content instanceof Uint8Array)) await holding.take(LARGE_PUT);
      const { digest } = await (content instanceof Uint8Array
        ? blobs.put(content, { signal })
        : putKept(blobs, content, signal));
      await blobs.flush();
      return { digest: digest.bytes };
    }),
  ];
}

/** What of a blob is asked for. */
interface StatOptions {
  readonly sendChunks: boolean;
  readonly sendBao: boolean;
}

/** The outboard of a blob, made if need be. */
async function outboardOf(
  blobs: BlobService,
  digest: Digest,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  const outboard = await blobs.outboard?.(digest, { make: true, signal });
  return outboard?.read(0, outboard.length, signal);
}

type BlobMessage = { data?: Uint8Array | null };

async function chunksInPieces(blobs: BlobService, digest: Digest, signal: AbortSignal) {
  if (blobs.chunksInPieces) return blobs.chunksInPieces(digest, signal);
  const chunks = await blobs.chunks(digest, signal);
  return chunks && [chunks];
}

/** The contents of an upload. Most are one short message, which is stored with less effort than a stream. */
async function contentOf(requests: AsyncIterable<BlobMessage>): Promise<BlobContent> {
  const messages = requests[Symbol.asyncIterator]();
  const first = await messages.next();
  const begin = first.done ? undefined : first.value.data;
  let next = first.done || (begin && begin.length > SINGLE_CHUNK_LIMIT) ? first : await messages.next();
  if (next.done) return begin ?? Buffer.alloc(0);
  return (async function* () {
    try {
      if (begin && next !== first) yield begin;
      for (; !next.done; next = await messages.next()) if (next.value.data) yield next.value.data;
    } finally {
      await messages.return?.();
    }
  })();
}

function directoryMethods({ directories }: Services): Implementation[] {
  return [
    serverStream(DIRECTORY.get, async function* (request, signal) {
      if (!request.digest) throw invalid('invalid by_what');
      const digest = digestOf(request.digest);
      if (request.recursive) {
        for await (const directory of directories.getRecursive(digest, signal)) yield directory.bytes;
        return;
      }
      const directory = await directories.get(digest, signal);
      if (!directory) throw notFound(`directory ${digest}`);
      yield directory.bytes;
    }),
    clientStream(DIRECTORY.put, async (requests) => {
      const putter = directories.putMany();
      for await (const bytes of requests) await putter.add(Directory.decode(bytes));
      const root = await putter.close();
      await directories.flush();
      return { rootDigest: root.bytes };
    }),
  ];
}

function pathInfoMethods(store: Store): Implementation[] {
  const { pathInfos } = store;
  const nars = new SingleFlight<Awaited<ReturnType<typeof calculateNar>>>();
  const calculations = new FairLimiter(CALCULATIONS_AT_ONCE);
  return [
    unary(PATH_INFO.get, async (request, signal, { grant }) => {
      const hash = request.byOutputHash;
      // As the Rust server says it.
      if (!hash) throw new StoreError('UNIMPLEMENTED', 'by_what needs to be specified');
      if (hash.length !== STORE_PATH_HASH_LENGTH) throw invalid('invalid output digest length');
      const info = await pathInfos.get(hash, signal);
      if (!info || !grant.isFor(info.storePath)) throw notFound('PathInfo');
      return pathInfoToMessage(info);
    }),
    unary(PATH_INFO.put, async (request, signal, { grant }) => {
      const info = takenPathInfo(request);
      if (!grant.isFor(info.storePath))
        throw new StoreError('PERMISSION_DENIED', `this token is not for ${info.storePath.absolute()}`);
      // They were sent before, maybe by another process and long ago: a collector may have taken them since.
      if (!(await keepTree(store, info.node, signal))) {
        throw new StoreError(
          'FAILED_PRECONDITION',
          `the contents of ${info.storePath.absolute()} are not here: send all of them, then the path info`,
        );
      }
      return pathInfoToMessage(await pathInfos.put(info, signal));
    }),
    unary(PATH_INFO.calculateNar, async (request, signal, { holding: { share } }) => {
      const { name, node } = nodeFromMessage(request);
      if (name.length > 0) throw invalid('invalid root node: it has a name');
      const key = asBuffer(PATH_INFO.calculateNar.request.encode(request)).toString('latin1');
      const work = (shared: AbortSignal) =>
        calculations.run(share, () => calculateNar(store, node, shared), shared);
      try {
        const { narSize, narSha256 } = await nars.run(key, work, signal);
        return { narSize: toLong(narSize), narSha256 };
      } catch (error) {
        throw error instanceof StoreError ? error : damaged('the NAR cannot be rendered', { cause: error });
      }
    }),
    serverStream(PATH_INFO.list, async function* (_request, signal, { grant }) {
      for await (const info of pathInfos.list(signal))
        if (grant.isFor(info.storePath)) yield pathInfoToMessage(info);
    }),
  ];
}
