import { spawn } from 'node:child_process';
import { StoreError } from '../errors.ts';
import { findProgram } from '../system/program.ts';
import type { Bytes } from './through.ts';
import { inSmallParts, throughProgram, throughStream } from './through.ts';

/** The strongest setting of the `xz` program needs 65 MiB. */
const MEMORY_LIMIT = 128 << 20;
/** It becomes up to 7000 times as much. */
const INPUT_LENGTH = 4096;
const OUTPUT_LENGTH = 64 * 1024;

type Lzma = typeof import('lzma-native');
let loaded: Promise<Lzma | undefined> | undefined;
let found: Promise<string | undefined> | undefined;

function loadPackage(): Promise<Lzma | undefined> {
  loaded ??= import('lzma-native').catch(() => undefined);
  return loaded;
}

function findXz(): Promise<string | undefined> {
  found ??= findProgram('xz');
  return found;
}

/** Loads or finds what undoes xz, for whoever cannot do so later. */
export async function prepareXz(): Promise<void> {
  if (!(await loadPackage())) await findXz();
}

/** Undoes xz by the package lzma-native where it is installed, else by the program `xz`. */
export async function* decompressXz(source: Bytes): AsyncGenerator<Uint8Array> {
  const lzma = await loadPackage();
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
  const program = await findXz();
  if (program === undefined) throw new StoreError('UNIMPLEMENTED', 'xz cannot be undone: install xz');
  const args = ['--decompress', '--stdout', `--memlimit-decompress=${MEMORY_LIMIT}`];
  yield* throughProgram(source, spawn(program, args, { cwd: '/' }));
}
