import type { BlobService, Chunk } from '../../../castore/blob/service.ts';
import type { Digest } from '../../../castore/digest.ts';
import { EMPTY_DIGEST } from '../../../castore/digest.ts';

/** The contents of the empty blob, which the Remote Execution API has always there; `undefined` of others. */
export function alwaysThere(digest: Digest): AsyncIterable<Uint8Array> | undefined {
  return digest.equals(EMPTY_DIGEST) ? nothing() : undefined;
}

/** Whether a blob is where puts go. The empty one is put there: whoever is told so may read it by other calls. */
export async function hasOrEmpty(
  blobs: BlobService,
  { digest, size }: Chunk,
  signal: AbortSignal,
): Promise<boolean> {
  if (await blobs.has(digest, { size, signal })) return true;
  if (!digest.equals(EMPTY_DIGEST)) return false;
  await blobs.put(new Uint8Array(), { signal });
  await blobs.flush();
  return true;
}

async function* nothing(): AsyncGenerator<Uint8Array> {}
