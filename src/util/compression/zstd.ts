import { pipeline, Readable } from 'node:stream';
import {
  constants,
  createZstdCompress,
  createZstdDecompress,
  zstdCompressSync,
  zstdDecompressSync,
} from 'node:zlib';
import { damaged, messageOf, systemCode } from '../errors.ts';
import { throughStream } from './through.ts';
import type { FramePart } from './zstd-frames.ts';
import { FrameSplitter } from './zstd-frames.ts';

type Source = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** The level that tvix and snix use. */
const PARAMS = { [constants.ZSTD_c_compressionLevel]: 3 };

/** Compresses to one frame. */
export function zstdCompress(bytes: Uint8Array): Uint8Array {
  return zstdCompressSync(bytes, { params: PARAMS });
}

/**
 * Decompresses any number of frames. Throws DATA_LOSS for what is invalid, cut short, or longer than `limit` bytes.
 * Node decodes the first frame only, whatever follows, and does not notice one that is cut short.
 */
export function zstdDecompress(bytes: Uint8Array, limit: number): Uint8Array {
  const splitter = new FrameSplitter();
  const parts: Uint8Array[] = [];
  let room = limit;
  for (const frame of splitter.push(bytes)) {
    const part = decompressFrame(frame.bytes, Math.max(1, room));
    room -= part.length;
    if (room < 0) throw damaged(`zstd data of more than ${limit} bytes, as many as were expected`);
    parts.push(part);
  }
  splitter.finish();
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}

function decompressFrame(frame: Uint8Array, maxOutputLength: number): Uint8Array {
  try {
    return zstdDecompressSync(frame, { maxOutputLength });
  } catch (error) {
    throw invalidData(error);
  }
}

/** Compresses a stream to one frame, in parts. */
export function zstdCompressStream(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  return throughStream(source, createZstdCompress({ params: PARAMS }));
}

/**
 * Decompresses a stream of any number of frames, in parts. Throws DATA_LOSS as it goes, also for frames that refer to what
 * is further behind than 2 to the power of `windowLog` bytes: so much memory it takes.
 */
export async function* zstdDecompressStream(source: Source, windowLog = 27): AsyncGenerator<Uint8Array> {
  const params = { [constants.ZSTD_d_windowLogMax]: windowLog };
  const parts = split(source);
  try {
    for (let next = await parts.next(); !next.done; next = await parts.next()) {
      const frame = Readable.from(oneFrame(next.value, parts), { objectMode: false });
      yield* pipeline(frame, createZstdDecompress({ params }), () => {}) as AsyncIterable<Uint8Array>;
    }
  } catch (error) {
    // Any other error is the source's own.
    throw systemCode(error)?.startsWith('ZSTD_') ? invalidData(error) : error;
  } finally {
    // Whoever has seen enough does not wait for the source.
    parts.return(undefined).catch(() => {});
  }
}

async function* split(source: Source): AsyncGenerator<FramePart> {
  const splitter = new FrameSplitter();
  for await (const part of source) yield* splitter.push(part);
  splitter.finish();
}

async function* oneFrame(first: FramePart, parts: AsyncGenerator<FramePart>): AsyncGenerator<Uint8Array> {
  yield first.bytes;
  for (let last = first.last; !last; ) {
    const next = await parts.next();
    if (next.done) return;
    yield next.value.bytes;
    last = next.value.last;
  }
}

function invalidData(error: unknown) {
  return damaged(`invalid zstd data: ${messageOf(error)}`, { cause: error });
}
