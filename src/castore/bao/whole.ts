import { Limiter } from '../../util/async/limiter.ts';
import { Turns } from '../../util/async/turns.ts';
import { damaged } from '../../util/errors.ts';
import { Scratch } from '../../util/scratch.ts';
import type { BlobService, Outboard } from '../blob/service.ts';
import type { Digest } from '../digest.ts';
import { OutboardMaker } from './maker.ts';
import { outboardLength } from './shape.ts';

/** An outboard is held as a whole while it is made, and made up to this length: for blobs of 16 GiB. */
export const MAX_OUTBOARD_LENGTH = 64 << 20;
/** Blobs that are read through for it at once, in this process. */
const places = new Limiter(2);

/**
 * Makes the outboard of a blob out of its contents, and gives others their turn meanwhile. `undefined` when the blob is
 * not there, or too large. Throws DATA_LOSS when the contents are another blob's.
 */
export async function makeOutboard(
  blobs: BlobService,
  digest: Digest,
  signal?: AbortSignal,
): Promise<Uint8Array | undefined> {
  const chunks = await blobs.chunks(digest, signal);
  const size = chunks?.reduce((sum, chunk) => sum + chunk.size, 0);
  if (size === undefined || outboardLength(size) > MAX_OUTBOARD_LENGTH) return undefined;
  return places.run(async () => {
    const contents = await blobs.read(digest, { scratch: new Scratch(), signal });
    return contents && madeOf(digest, contents, signal);
  }, signal);
}

async function madeOf(
  digest: Digest,
  contents: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const turns = new Turns(signal);
  const maker = new OutboardMaker();
  for await (const part of contents) {
    maker.update(part);
    if (turns.isDue) await turns.take();
  }
  const made = maker.finish();
  if (!made.digest.equals(digest))
    throw damaged(`the contents of blob ${digest} are not what its digest says`);
  return made.outboard;
}

/** An outboard that is in memory. */
export function heldOutboard(bytes: Uint8Array): Outboard {
  return {
    length: bytes.length,
    async read(offset, length) {
      return bytes.subarray(offset, offset + length);
    },
  };
}
