import { createBrotliDecompress, createGunzip } from 'node:zlib';
import { damaged, messageOf, StoreError } from '../errors.ts';
import { decompressBzip2 } from './bzip2.ts';
import { decompressLz4 } from './lz4.ts';
import type { Bytes } from './through.ts';
import { throughStream } from './through.ts';
import { decompressXz } from './xz.ts';
import { zstdDecompressStream } from './zstd.ts';

const OUTPUT_LENGTH = 128 * 1024;

/** By the names that a narinfo uses. Each holds back its source while nobody takes what comes out. */
const FORMATS = {
  xz: decompressXz,
  zstd: zstdDecompressStream,
  gzip: (source: Bytes) => throughStream(source, createGunzip({ chunkSize: OUTPUT_LENGTH })),
  br: (source: Bytes) => throughStream(source, createBrotliDecompress({ chunkSize: OUTPUT_LENGTH })),
  bzip2: decompressBzip2,
  lz4: decompressLz4,
};

/** A compression that can be undone. */
export type Compression = keyof typeof FORMATS | 'none';

/** Reads the name of a compression. Throws UNIMPLEMENTED for one that cannot be undone. */
export function parseCompression(name: string): Compression {
  if (name === 'none' || Object.hasOwn(FORMATS, name)) return name as Compression;
  throw new StoreError(
    'UNIMPLEMENTED',
    `unknown compression ${JSON.stringify(name.slice(0, 100))}; known are none, ${Object.keys(FORMATS).join(', ')}`,
  );
}

/**
 * Undoes a compression. Memory is bounded whatever the source claims; the length of what comes out is not, so
 * whoever takes it counts. The iteration throws DATA_LOSS for what is not of that form, or cut short.
 */
export async function* decompress(compression: Compression, source: Bytes): AsyncGenerator<Uint8Array> {
  if (compression === 'none') {
    yield* source;
    return;
  }
  try {
    yield* FORMATS[compression](source);
  } catch (error) {
    // What the source throws stays what it is.
    if (error instanceof StoreError) throw error;
    throw damaged(`the ${compression} data is damaged: ${messageOf(error)}`, { cause: error });
  }
}
