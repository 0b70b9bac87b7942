import { spawn } from 'node:child_process';
import { messageOf, StoreError, systemCode } from '../errors.ts';
import type { Bytes } from './through.ts';
import { inSmallParts, throughProgram, throughStream } from './through.ts';

/** The strongest setting of the `xz` program needs 65 MiB. */
const MEMORY_LIMIT = 128 << 20;
/** It becomes up to 7000 times as much. */
const INPUT_LENGTH = 4096;
const OUTPUT_LENGTH = 64 * 1024;

/** Undoes xz by the package lzma-native where it is installed, else by the program `xz`. */
export async function* decompressXz(source: Bytes): AsyncGenerator<Uint8Array> {
  const lzma = await import('lzma-native').catch(() => undefined);
  if (!lzma) {
    yield* decompressXzByProgram(source);
    return;
  }
  const decoder = lzma.createStream('streamDecoder', { memlimit: MEMORY_LIMIT, bufsize: OUTPUT_LENGTH });
  try {
    yield* throughStream(inSmallParts(source, INPUT_LENGTH), decoder);
  } catch (error) {
    throw error instanceof Error && error.name === 'LZMA_BUF_ERROR' ? new Error('it is cut short') : error;
  }
}

/** Undoes xz by the program. Throws UNIMPLEMENTED where there is none. */
export async function* decompressXzByProgram(source: Bytes): AsyncGenerator<Uint8Array> {
  try {
    yield* throughProgram(
      source,
      spawn('xz', ['--decompress', '--stdout', `--memlimit-decompress=${MEMORY_LIMIT}`]),
    );
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    throw new StoreError('UNIMPLEMENTED', `xz cannot be undone: install xz (${messageOf(error)})`, {
      cause: error,
    });
  }
}
