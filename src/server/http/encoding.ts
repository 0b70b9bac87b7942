import { zstdCompress } from '../../util/compression/zstd.ts';

/** Contents are compressed in pieces of this length, a frame each. */
const FRAME_LENGTH = 512 * 1024;

/** Whether an Accept-Encoding header names an encoding, and not only to refuse it. */
export function accepts(header: string | undefined, encoding: string): boolean {
  return (header ?? '').split(',').some((item) => {
    const [name, ...parameters] = item.split(';').map((part) => part.trim().toLowerCase());
    return name === encoding && !parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter));
  });
}

/** Compresses by zstd on the way. A part may be overwritten when the next is asked for. */
export async function* zstdEncoded(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const frame = Buffer.allocUnsafeSlow(FRAME_LENGTH);
  let length = 0;
  for await (const part of bytes) {
    for (let from = 0; from < part.length; ) {
      const piece = part.subarray(from, from + FRAME_LENGTH - length);
      frame.set(piece, length);
      from += piece.length;
      length += piece.length;
      if (length < FRAME_LENGTH) continue;
      yield zstdCompress(frame);
      length = 0;
    }
  }
  if (length > 0) yield zstdCompress(frame.subarray(0, length));
}
