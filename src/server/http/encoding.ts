import { zstdCompress } from '../../util/zstd.ts';

/** Contents are compressed in pieces of at least this length, a frame each. */
const FRAME_LENGTH = 512 * 1024;

/** Whether an Accept-Encoding header names an encoding, and not only to refuse it. */
export function accepts(header: string | undefined, encoding: string): boolean {
  return (header ?? '').split(',').some((item) => {
    const [name, ...parameters] = item.split(';').map((part) => part.trim().toLowerCase());
    return name === encoding && !parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter));
  });
}

/** Compresses by zstd on the way. */
export async function* zstdEncoded(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of bytes) {
    parts.push(part);
    length += part.length;
    if (length < FRAME_LENGTH) continue;
    yield zstdCompress(Buffer.concat(parts));
    parts = [];
    length = 0;
  }
  if (length > 0) yield zstdCompress(Buffer.concat(parts));
}
