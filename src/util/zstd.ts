import { StoreError } from './errors.ts';
import { ENGINES } from './zstd-engines.ts';

const decoder = ENGINES[0]!;
const encoder = ENGINES.find(({ compress }) => compress);

/** Compresses to one frame. Throws UNIMPLEMENTED where nothing can. */
export function zstdCompress(bytes: Uint8Array): Uint8Array {
  if (!encoder) {
    throw new StoreError(
      'UNIMPLEMENTED',
      'zstd compression needs Node 22.15 or newer, or the optional package zstd-napi (npm install zstd-napi)',
    );
  }
  return encoder.compress!(bytes);
}

/** Throws DATA_LOSS for what is invalid, cut short, or longer than `limit` bytes. */
export function zstdDecompress(bytes: Uint8Array, limit: number): Uint8Array {
  return decoder.decompress(bytes, limit);
}

/** Decompresses a stream of any number of frames, in parts. Throws DATA_LOSS as it goes. */
export function zstdDecompressStream(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  return decoder.stream(source);
}
