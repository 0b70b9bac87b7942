import type { Chunk } from './service.ts';

/** The chunks that hold what comes from `offset` on, and the bytes of the first to be skipped. */
export function chunksFrom(
  chunks: readonly Chunk[],
  offset: number,
): { wanted: readonly Chunk[]; skip: number } {
  let position = 0;
  for (const [i, { size }] of chunks.entries()) {
    if (offset < position + size) return { wanted: chunks.slice(i), skip: offset - position };
    position += size;
  }
  return { wanted: [], skip: 0 };
}

/** A stream behind its first `count` bytes. */
export async function* skipped(parts: AsyncIterable<Uint8Array>, count: number): AsyncGenerator<Uint8Array> {
  let left = count;
  for await (const part of parts) {
    if (left < part.length) yield part.subarray(left);
    left = Math.max(0, left - part.length);
  }
}
