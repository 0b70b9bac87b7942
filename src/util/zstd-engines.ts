import { createRequire } from 'node:module';
import { pipeline, Readable, type Transform } from 'node:stream';
import * as zlib from 'node:zlib';
import { Decompress } from 'fzstd';
import { damaged, messageOf, systemCode } from './errors.ts';
import type { FramePart } from './zstd-frames.ts';
import { FrameSplitter } from './zstd-frames.ts';

type Source = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** An implementation of zstd. What is wrong with its input it says as DATA_LOSS. */
export interface Engine {
  readonly name: string;
  /** Absent where it can only decode. */
  compress?(bytes: Uint8Array): Uint8Array;
  /** At most `limit` bytes. */
  decompress(bytes: Uint8Array, limit: number): Uint8Array;
  /** Any number of frames. */
  stream(source: Source): AsyncGenerator<Uint8Array>;
}

/** What tvix and snix use. */
const LEVEL = 3;

/** Those that there are here, the best first. */
export const ENGINES: readonly Engine[] = [ofNode(), ofZstdNapi(), ofFzstd()].filter(
  (engine) => engine !== undefined,
);

/** What Node has from 22.15 on; its types here are of an older one. */
interface NodeZstd {
  zstdCompressSync?(bytes: Uint8Array, options: object): Buffer;
  zstdDecompressSync(bytes: Uint8Array, options: { maxOutputLength: number }): Buffer;
  createZstdDecompress(): Transform;
  readonly constants: { readonly ZSTD_c_compressionLevel: number };
}

function ofNode(): Engine | undefined {
  const { zstdCompressSync, ...node } = zlib as unknown as NodeZstd;
  if (!zstdCompressSync) return undefined;
  const params = { [node.constants.ZSTD_c_compressionLevel]: LEVEL };
  return {
    name: 'node:zlib',
    compress: (bytes) => zstdCompressSync(bytes, { params }),
    // It decodes one frame only, whatever follows, and one that is cut short without a word.
    decompress(bytes, limit) {
      const splitter = new FrameSplitter();
      const parts: Uint8Array[] = [];
      let room = limit;
      for (const frame of splitter.push(bytes)) {
        const part = refusing(() =>
          node.zstdDecompressSync(frame.bytes, { maxOutputLength: Math.max(1, room) }),
        );
        room -= part.length;
        if (room < 0) throw tooLong(limit);
        parts.push(part);
      }
      splitter.finish();
      return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
    },
    async *stream(source) {
      const parts = split(source);
      for (let next = await parts.next(); !next.done; next = await parts.next()) {
        const frame = Readable.from(oneFrame(next.value, parts), { objectMode: false });
        try {
          yield* pipeline(frame, node.createZstdDecompress(), () => {}) as AsyncIterable<Uint8Array>;
        } catch (error) {
          // Else it is the source's own.
          throw systemCode(error)?.startsWith('ZSTD_') ? invalidData(error) : error;
        }
      }
    },
  };
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

/** What this program uses of the optional package, whose higher functions allocate what a header claims. */
interface ZstdNapi {
  readonly DCtx: new () => {
    decompress(out: Uint8Array, bytes: Uint8Array): number;
    /** Gives 0 at the end of a frame, how much came out, and how much went in. */
    decompressStream(out: Uint8Array, bytes: Uint8Array): [number, number, number];
  };
  readonly CCtx: new () => { compress(out: Uint8Array, bytes: Uint8Array, level: number): number };
  compressBound(length: number): number;
  getFrameContentSize(bytes: Uint8Array): number | null;
}

function ofZstdNapi(): Engine | undefined {
  let napi: ZstdNapi;
  try {
    napi = createRequire(import.meta.url)('zstd-napi/binding.js');
  } catch {
    return undefined;
  }
  const encoder = new napi.CCtx();
  const decoder = new napi.DCtx();
  return {
    name: 'zstd-napi',
    compress(bytes) {
      const out = Buffer.allocUnsafeSlow(napi.compressBound(bytes.length));
      return Uint8Array.from(out.subarray(0, encoder.compress(out, bytes, LEVEL)));
    },
    decompress(bytes, limit) {
      const claimed = refusing(() => napi.getFrameContentSize(bytes)) ?? limit;
      if (claimed > limit) throw tooLong(limit);
      const out = Buffer.allocUnsafeSlow(limit);
      const length = refusing(() => decoder.decompress(out, bytes));
      return length === limit ? out : Uint8Array.from(out.subarray(0, length));
    },
    async *stream(source) {
      const streaming = new napi.DCtx();
      let left = 0;
      for await (const part of source) {
        for (let at = 0, filled = false; at < part.length || filled; ) {
          const out = Buffer.allocUnsafe(OUTPUT);
          const [more, produced, consumed] = refusing(() =>
            streaming.decompressStream(out, part.subarray(at)),
          );
          at += consumed;
          left = more;
          filled = produced === OUTPUT && more > 0;
          if (produced > 0) yield out.subarray(0, produced);
        }
      }
      if (left > 0) throw damaged('a zstd stream is cut short');
    },
  };
}

const OUTPUT = 128 << 10;
/** Input of fzstd at a time: all that comes of it is in memory at once, up to 128 KiB for 4 bytes. */
const SLICE = 1024;

/** JavaScript that can only decode: for a Node without zstd where the optional package was not built. */
function ofFzstd(): Engine {
  return {
    name: 'fzstd',
    decompress(bytes, limit) {
      const frames = new FzstdFrames();
      const parts: Uint8Array[] = [];
      let length = 0;
      for (const part of frames.push(bytes)) {
        length += part.length;
        if (length > limit) throw tooLong(limit);
        parts.push(part);
      }
      frames.finish();
      return Buffer.concat(parts);
    },
    async *stream(source) {
      const frames = new FzstdFrames();
      for await (const part of source) yield* frames.push(part);
      frames.finish();
    },
  };
}

class FzstdFrames {
  readonly #splitter = new FrameSplitter();
  #frame: Decompress | undefined;

  *push(part: Uint8Array): Generator<Uint8Array> {
    for (const { bytes, last } of this.#splitter.push(part)) {
      this.#frame ??= new Decompress();
      const frame = this.#frame;
      for (let at = 0; at < bytes.length; at += SLICE) {
        const out: Uint8Array[] = [];
        frame.ondata = (decoded) => out.push(Uint8Array.from(decoded));
        refusing(() => frame.push(bytes.subarray(at, at + SLICE), last && at + SLICE >= bytes.length));
        for (const decoded of out) if (decoded.length > 0) yield decoded;
      }
      if (last) this.#frame = undefined;
    }
  }

  finish(): void {
    this.#splitter.finish();
  }
}

function refusing<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw invalidData(error);
  }
}

function invalidData(error: unknown) {
  return damaged(`invalid zstd data: ${messageOf(error)}`, { cause: error });
}

function tooLong(limit: number) {
  return damaged(`zstd data of more than ${limit} bytes, as many as were expected`);
}
