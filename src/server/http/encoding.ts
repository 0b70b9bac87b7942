import { brotliCompressSync, gzipSync, constants as zlib } from 'node:zlib';
import { parseContentEncoding, undoEncodings } from '../../util/compression/content-encoding.ts';
import { zstdCompress } from '../../util/compression/zstd.ts';
import { invalid, messageOf, StoreError } from '../../util/errors.ts';
import type { Exchange } from './exchange.ts';
import { HttpProblem } from './problem.ts';

/** Contents are compressed in pieces of this length, a frame each. */
const FRAME_LENGTH = 512 * 1024;

/** Whether an Accept-Encoding header names an encoding, and not only to refuse it. */
export function accepts(header: string | undefined, encoding: string): boolean {
  return (header ?? '').split(',').some((item) => {
    const [name, ...parameters] = item.split(';').map((part) => part.trim().toLowerCase());
    return name === encoding && !parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter));
  });
}

/** The body of a request without its Content-Encoding. What is no such encoding is the client's fault. */
export async function* decodedBody(exchange: Exchange): AsyncGenerator<Uint8Array> {
  try {
    yield* undoEncodings(parseContentEncoding(exchange.header('content-encoding')), exchange.body());
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    if (error.code === 'UNIMPLEMENTED') throw new HttpProblem(415, error.message);
    if (error.code === 'DATA_LOSS') throw invalid(messageOf(error), { cause: error });
    throw error;
  }
}

/** What texts are compressed by, the best first; quickly, since it is done for each answer. */
const TEXT_ENCODINGS: readonly [name: string, encode: (text: Uint8Array) => Uint8Array][] = [
  ['zstd', zstdCompress],
  ['br', (text) => brotliCompressSync(text, { params: { [zlib.BROTLI_PARAM_QUALITY]: 4 } })],
  ['gzip', (text) => gzipSync(text)],
];

/** Answers with a text, compressed where that is asked for. */
export function replyEncoded(exchange: Exchange, type: string, text: string): void {
  const asked = exchange.header('accept-encoding');
  const [name, encode] = TEXT_ENCODINGS.find(([encoding]) => accepts(asked, encoding)) ?? [];
  const bytes = Buffer.from(text);
  const headers = { vary: 'accept-encoding', ...(name ? { 'content-encoding': name } : {}) };
  exchange.reply(200, type, encode?.(bytes) ?? bytes, headers);
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
