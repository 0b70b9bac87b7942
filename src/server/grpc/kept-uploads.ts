import type { BlobService, Chunk } from '../../castore/blob/service.ts';
import type { Digest } from '../../castore/digest.ts';
import { mapAhead } from '../../util/async/iterables.ts';
import { Turns } from '../../util/async/turns.ts';
import { invalid, messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';

/** What a put of several chunks takes besides the message that came last, in bytes: chunks that are cut, or being written. */
export const LARGE_PUT = 1 << 20;
/** What has come of a long upload is durable after so long, in milliseconds. */
const FLUSH_MS = 2000;
/** Chunks that are read ahead, of what is made of them. */
const READ_AT_ONCE = 8;

/** Puts an upload of which every chunk is to be kept, though the rest may never come. */
export async function putKept(
  blobs: BlobService,
  content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  signal: AbortSignal,
): Promise<Chunk> {
  const flush = () =>
    blobs.flush().catch((error) => log.warn('cannot keep an upload yet', { error: messageOf(error) }));
  const timer = setInterval(flush, FLUSH_MS).unref();
  try {
    return await blobs.put(content, { signal });
  } catch (error) {
    await flush();
    throw error;
  } finally {
    clearInterval(timer);
  }
}

/**
 * Makes a blob of chunks that are there. They are read, and the blob is put as if they had come: so nobody is believed what
 * they make. Throws NOT_FOUND when one is missing, INVALID_ARGUMENT when they make another blob.
 */
export async function spliced(
  blobs: BlobService,
  digest: Digest,
  chunks: readonly Digest[],
  signal: AbortSignal,
): Promise<void> {
  const read = async (chunk: Digest) => {
    const contents = await blobs.read(chunk, { signal });
    if (!contents) throw new StoreError('NOT_FOUND', `blob ${chunk} not found`);
    return contents;
  };
  // Of a local store nothing has to be waited for.
  const turns = new Turns(signal);
  const contents = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of mapAhead(chunks, READ_AT_ONCE, read)) {
      yield* chunk;
      if (turns.isDue) await turns.take();
    }
  };
  const found = await blobs.put(contents(), { signal });
  await blobs.flush();
  if (!found.digest.equals(digest)) throw invalid(`the chunks make blob ${found.digest}, not ${digest}`);
}
