import type Long from 'long';
import { BLOB_MESSAGE_LENGTH, BYTE_STREAM } from '../../../proto/grpc/methods.ts';
import { toBigInt } from '../../../proto/long.ts';
import type { Store } from '../../../store/services.ts';
import { withSigns } from '../../../util/async/signs.ts';
import { zstdCompressStream } from '../../../util/compression/zstd.ts';
import { invalid, StoreError } from '../../../util/errors.ts';
import { Scratch } from '../../../util/scratch.ts';
import type { Implementation } from '../implementation.ts';
import { clientStream, serverStream, unary } from '../implementation.ts';
import { LARGE_PUT } from '../kept-uploads.ts';
import { alwaysThere, hasOrEmpty } from './empty.ts';
import { parseReadName, parseUploadName } from './resource-name.ts';
import type { WriteMessage } from './writes.ts';
import { Writes, ZSTD_MEMORY } from './writes.ts';

/** What a read from another machine takes besides, in bytes, if there is so much of it: what its connection has on its way. */
const FAR_READ = 4 << 20;

/** Blobs of any length, read and written as streams (protos/google/bytestream). */
export function byteStreamMethods({ blobs, far }: Store): Implementation[] {
  const writes = new Writes(blobs);
  return [
    serverStream(BYTE_STREAM.read, async function* (request, signal, { holding }) {
      const { digest, size, isCompressed } = parseReadName(request.resourceName ?? '');
      const offset = signed(request.readOffset);
      const limit = signed(request.readLimit);
      if (offset < 0 || offset > size)
        throw new StoreError('OUT_OF_RANGE', `want a read_offset of 0 to ${size}`);
      if (limit < 0) throw invalid('want a read_limit of 0 or more');
      if (limit > 0 && isCompressed) throw invalid('want no read_limit for what is compressed');
      if (far) await holding.take(Math.min(size, FAR_READ));
      // What was sent last may still be on its way when the next is read.
      const scratch = isCompressed ? undefined : new Scratch(2);
      const contents = alwaysThere(digest) ?? (await blobs.read(digest, { offset, scratch, signal }));
      if (!contents) throw new StoreError('NOT_FOUND', `blob ${digest} not found`);
      if (isCompressed) await holding.take(ZSTD_MEMORY);
      const wanted = limit > 0 ? Math.min(limit, size - offset) : size - offset;
      const exact = bounded(contents, wanted, offset + wanted === size);
      // A message without contents says that they are under way.
      const parts = withSigns<Uint8Array | undefined>(
        isCompressed ? zstdCompressStream(exact) : exact,
        undefined,
      );
      for await (const part of parts) {
        if (!part) yield {};
        else
          for (let at = 0; at < part.length; at += BLOB_MESSAGE_LENGTH)
            yield { data: part.subarray(at, at + BLOB_MESSAGE_LENGTH) };
      }
    }),
    clientStream(BYTE_STREAM.write, async (requests, signal, { holding }) => {
      const messages = requests[Symbol.asyncIterator]() as AsyncIterator<WriteMessage>;
      const first = await messages.next();
      if (first.done) throw invalid('the upload has no message');
      const name = parseUploadName(first.value.resourceName ?? '');
      const { size, isCompressed } = name;
      try {
        // Nobody need send what is there.
        if (await hasOrEmpty(blobs, name, signal)) return { committedSize: isCompressed ? -1 : size };
        await holding.take(isCompressed ? LARGE_PUT + ZSTD_MEMORY : LARGE_PUT);
        return { committedSize: await writes.write(name, first.value, messages, signal) };
      } finally {
        await messages.return?.();
      }
    }),
    unary(BYTE_STREAM.query, async ({ resourceName }, signal) => {
      const name = parseUploadName(resourceName ?? '');
      if (await hasOrEmpty(blobs, name, signal))
        return { committedSize: name.isCompressed ? -1 : name.size, complete: true };
      return { committedSize: await writes.committed(name, signal), complete: false };
    }),
  ];
}

/** A number of 64 bits that may be less than nothing. */
function signed(value: number | Long | null | undefined): number {
  return Number(BigInt.asIntN(64, toBigInt(value)));
}

/** So many bytes of contents, which are to end there if `isEnd`. Throws INVALID_ARGUMENT when there are others. */
async function* bounded(
  contents: AsyncIterable<Uint8Array>,
  wanted: number,
  isEnd: boolean,
): AsyncGenerator<Uint8Array> {
  let left = wanted;
  for await (const part of contents) {
    if (isEnd && part.length > left) throw anotherSize();
    yield part.subarray(0, left);
    left -= part.length;
    if (left <= 0 && !isEnd) return;
  }
  if (left > 0) throw anotherSize();
}

function anotherSize(): StoreError {
  return invalid('the blob has another size than its name says');
}
