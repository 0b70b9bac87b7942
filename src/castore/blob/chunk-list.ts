import { tvix } from '../../proto/messages.ts';
import type { Chunk } from './service.ts';

/** A chunk list as it is sent and stored: an encoded StatBlobResponse. */
export function encodeChunkList(chunks: readonly Chunk[]): Uint8Array {
  const list = chunks.map(({ digest, size }) => ({ digest: digest.bytes, size }));
  return tvix.castore.v1.StatBlobResponse.encode({ chunks: list }).finish();
}

/** An outboard as it is sent: an encoded StatBlobResponse, too. */
export function encodeOutboard(bao: Uint8Array): Uint8Array {
  return tvix.castore.v1.StatBlobResponse.encode({ bao }).finish();
}
