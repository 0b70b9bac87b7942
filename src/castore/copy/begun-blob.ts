import { mapAhead } from '../../util/async/iterables.ts';
import type { LinePlaces } from '../../util/async/line-places.ts';
import { Turns } from '../../util/async/turns.ts';
import { collect } from '../../util/bytes.ts';
import { damaged, isDamage } from '../../util/errors.ts';
import { FarBlobs } from '../blob/far-blobs.ts';
import type { BlobService, Chunk } from '../blob/service.ts';
import { SINGLE_CHUNK_LIMIT } from '../blob/service.ts';
import type { FileNode } from '../node.ts';

/** Chunks that are looked for at once. */
const AT_ONCE = 8;

/**
 * The contents of a large file of which a local target has a part, from a copy that was cut short: only what it lacks comes
 * from afar, no more at once than the line carries, or many chunks would be half there when it is cut again. `undefined` where
 * there is no such part. What they make is for the caller to check. `onArrival` hears of bytes that come from afar.
 */
export async function begunContents(
  from: BlobService,
  to: BlobService,
  file: FileNode,
  places: LinePlaces,
  onArrival: (bytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<AsyncIterable<Uint8Array> | undefined> {
  // Only there it takes no waiting to look.
  if (from.readAtOnce || !to.readAtOnce || file.size <= SINGLE_CHUNK_LIMIT) return undefined;
  const far = new FarBlobs(from);
  const chunks = (await far.chunks(file.digest, Number(file.size), signal)) ?? [];
  // What came in order is there from its beginning.
  if (!chunks[0] || !(await to.has(chunks[0].digest, { signal }))) return undefined;
  // What is there takes no waiting.
  const turns = new Turns(signal);
  const get = async (chunk: Chunk): Promise<Uint8Array> => {
    if (turns.isDue) await turns.take();
    const here = await near(to, chunk, signal);
    if (here) return here;
    const bytes = await places.run(chunk.size, () => far.chunk(chunk, signal), signal);
    if (!bytes) throw damaged(`chunk ${chunk.digest} is missing`);
    onArrival(bytes.length);
    return bytes;
  };
  return mapAhead(chunks, AT_ONCE, get);
}

/** A chunk that is there and sound. */
async function near(
  blobs: BlobService,
  { digest, size }: Chunk,
  signal: AbortSignal | undefined,
): Promise<Uint8Array | undefined> {
  try {
    if (!(await blobs.has(digest, { size, signal }))) return undefined;
    const parts = await blobs.read(digest, { size, signal });
    const bytes = parts && (await collect(parts, size));
    return bytes?.length === size ? bytes : undefined;
  } catch (error) {
    if (isDamage(error)) return undefined;
    throw error;
  }
}
