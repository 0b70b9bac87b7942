import { damaged } from '../../util/errors.ts';
import type { Chunk } from './service.ts';

/** Contents in the pieces that a chunk list tells. Throws DATA_LOSS when they are of another length. */
export async function* alongChunks(
  contents: AsyncIterable<Uint8Array>,
  chunks: readonly Chunk[],
): AsyncGenerator<Uint8Array> {
  let index = 0;
  let parts: Uint8Array[] = [];
  let length = 0;
  for await (const arrived of contents) {
    for (let rest = arrived; rest.length > 0; ) {
      const chunk = chunks[index];
      if (!chunk) throw damaged('a blob is longer than its chunks');
      const part = rest.subarray(0, chunk.size - length);
      rest = rest.subarray(part.length);
      parts.push(part);
      length += part.length;
      if (length < chunk.size) continue;
      yield parts.length === 1 ? part : Buffer.concat(parts, length);
      index++;
      parts = [];
      length = 0;
    }
  }
  if (index < chunks.length) throw damaged('a blob is shorter than its chunks');
}
