import type { BlobContent, Chunk } from '../../castore/blob/service.ts';
import { SINGLE_CHUNK_LIMIT } from '../../castore/blob/service.ts';
import { Digest } from '../../castore/digest.ts';
import { Directory } from '../../castore/directory.ts';
import { nodeFromMessage } from '../../castore/node-message.ts';
import { STORE_PATH_HASH_LENGTH } from '../../nix/store-path.ts';
import type { Method } from '../../proto/grpc/methods.ts';
import { BLOB, BLOB_MESSAGE_LENGTH, DIRECTORY, PATH_INFO } from '../../proto/grpc/methods.ts';
import { toLong } from '../../proto/long.ts';
import { keepTree } from '../../store/keeping/keep-tree.ts';
import { calculateNar } from '../../store/nar/calculate.ts';
import { pathInfoFromMessage, pathInfoToMessage } from '../../store/path-info/message.ts';
import type { Services, Store } from '../../store/services.ts';
import { damaged, invalid, StoreError } from '../../util/errors.ts';
import type { ClientStream, ServerStream, Unary, Work } from './calls.ts';

/** A method, and the work that answers it under any dialect. */
export interface Implementation {
  readonly method: Method<unknown, unknown>;
  readonly work: Work<unknown, unknown>;
}

function unary<Q, R>(method: Method<Q, R>, work: Unary<Q, R>): Implementation {
  return { method, work } as unknown as Implementation;
}
function serverStream<Q, R>(method: Method<Q, R>, work: ServerStream<Q, R>): Implementation {
  return { method, work } as unknown as Implementation;
}
function clientStream<Q, R>(method: Method<Q, R>, work: ClientStream<Q, R>): Implementation {
  return { method, work } as unknown as Implementation;
}

/** The three services over a store (protocol.md 1.4, 1.5, 1.8). A put is answered when it is durable. */
export function implementations(store: Store): Implementation[] {
  return [...blobMethods(store), ...directoryMethods(store), ...pathInfoMethods(store)];
}

function digestOf(bytes: Uint8Array | null | undefined): Digest {
  return Digest.of(bytes ?? new Uint8Array());
}

function notFound(what: string): StoreError {
  return new StoreError('NOT_FOUND', `${what} not found`);
}

function blobMethods({ blobs }: Services): Implementation[] {
  return [
    unary(BLOB.stat, async (request, signal) => {
      const digest = digestOf(request.digest);
      // Who does not ask for chunks wants to know whether to send it; they are told all the same, as by the Rust daemons.
      const isThere = request.sendChunks || (await blobs.has(digest, { signal }));
      const chunks = isThere ? await blobs.chunks(digest, signal) : undefined;
      if (!chunks) throw notFound(`blob ${digest}`);
      return { chunks: chunks.map((chunk: Chunk) => ({ digest: chunk.digest.bytes, size: chunk.size })) };
    }),
    serverStream(BLOB.read, async function* (request, signal): AsyncGenerator<{ data?: Uint8Array | null }> {
      const digest = digestOf(request.digest);
      const contents = await blobs.read(digest, { signal });
      if (!contents) throw notFound(`blob ${digest}`);
      for await (const part of contents) {
        for (let at = 0; at < part.length; at += BLOB_MESSAGE_LENGTH) {
          yield { data: part.subarray(at, at + BLOB_MESSAGE_LENGTH) };
        }
      }
    }),
    clientStream(BLOB.put, async (requests, signal) => {
      const { digest } = await blobs.put(await contentOf(requests), { signal });
      await blobs.flush();
      return { digest: digest.bytes };
    }),
  ];
}

/** The contents of an upload. Most are one short message, which is stored with less effort than a stream. */
async function contentOf(requests: AsyncIterable<{ data?: Uint8Array | null }>): Promise<BlobContent> {
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
  return [
    unary(PATH_INFO.get, async (request, signal) => {
      const hash = request.byOutputHash;
      // As the Rust server says it.
      if (!hash) throw new StoreError('UNIMPLEMENTED', 'by_what needs to be specified');
      if (hash.length !== STORE_PATH_HASH_LENGTH) throw invalid('invalid output digest length');
      const info = await pathInfos.get(hash, signal);
      if (!info) throw notFound('PathInfo');
      return pathInfoToMessage(info);
    }),
    unary(PATH_INFO.put, async (request, signal) => {
      const info = pathInfoFromMessage(request);
      // They were sent before, maybe by another process and long ago: a collector may have taken them since.
      if (!(await keepTree(store, info.node, signal))) {
        throw new StoreError(
          'FAILED_PRECONDITION',
          `the contents of ${info.storePath.absolute()} are not here: send all of them, then the path info`,
        );
      }
      return pathInfoToMessage(await pathInfos.put(info, signal));
    }),
    unary(PATH_INFO.calculateNar, async (request, signal) => {
      const { name, node } = nodeFromMessage(request);
      if (name.length > 0) throw invalid('invalid root node: it has a name');
      try {
        const { narSize, narSha256 } = await calculateNar(store, node, signal);
        return { narSize: toLong(narSize), narSha256 };
      } catch (error) {
        throw error instanceof StoreError ? error : damaged('the NAR cannot be rendered', { cause: error });
      }
    }),
    serverStream(PATH_INFO.list, async function* (_request, signal) {
      for await (const info of pathInfos.list(signal)) yield pathInfoToMessage(info);
    }),
  ];
}
