import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { messageOf, systemCode } from '../../util/errors.ts';
import { isDigestOf } from '../digest.ts';
import { Directory } from '../directory.ts';
import { ChunkFiles } from './chunk-files.ts';
import { RottenChunks } from './rotten-chunks.ts';
import { EPOCH_LENGTH, parseChunkRow, parseManifestRow } from './rows.ts';

/** The result of checking a row. */
export interface Verdict {
  /** Says what is wrong, if anything is. */
  readonly problem?: string;
  /** Bytes that were hashed. */
  readonly bytes: number;
  /** Length of a chunk. */
  readonly size?: number;
}

/** The problem of a chunk whose file has its length, and other bytes. */
export const ROTTEN = 'its file is not what its digest says';

/** Looks whether a row of a table is what its key says, its chunk file included. */
export type VerifyRow = (key: Buffer, row: Buffer) => Verdict;

/** How the rows of the castore tables are verified. */
export function castoreVerifiers(dir: string): Record<string, VerifyRow> {
  const files = new ChunkFiles(dir);
  const rotten = new RottenChunks(dir);
  const catching =
    (verify: VerifyRow): VerifyRow =>
    (key, row) => {
      if (row.length < EPOCH_LENGTH) return { problem: 'its row is damaged', bytes: 0 };
      try {
        return verify(key, row);
      } catch (error) {
        return { problem: messageOf(error), bytes: row.length };
      }
    };
  return {
    directory: catching((key, row) => {
      const encoded = row.subarray(EPOCH_LENGTH);
      if (!isDigestOf(key, encoded)) return { problem: 'it is not what its digest says', bytes: row.length };
      Directory.decode(encoded);
      return { bytes: row.length };
    }),
    manifest: catching((key, row) => {
      const chunks = [...parseManifestRow(row, key)];
      if (chunks.length < 2) return { problem: 'it is no list of chunks', bytes: row.length };
      // Whoever read all of the blob has found that.
      if (rotten.has(key)) return { problem: 'its chunks make another blob', bytes: row.length };
      return { bytes: row.length };
    }),
    outboard: catching((key, row) => {
      // Its chunks are checked as such; and with one missing it is made anew.
      parseManifestRow(row, key);
      return { bytes: row.length };
    }),
    chunk: catching((key, bytes) => {
      const row = parseChunkRow(bytes, key);
      if (row.kind === 'file') return verifyFile(files.path(key.toString('hex'), row.suffix), key, row.size);
      const size = row.bytes.length;
      if (!isDigestOf(key, row.bytes)) return { problem: 'it is not what its digest says', bytes: size };
      return { bytes: size, size };
    }),
  };
}

let scratch = Buffer.alloc(0);

function verifyFile(path: string, key: Buffer, size: number): Verdict {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return { problem: 'its file is missing', bytes: 0 };
    throw error;
  }
  try {
    if (fstatSync(fd).size !== size) return { problem: 'its file has another length', bytes: 0 };
    if (scratch.length < size) scratch = Buffer.allocUnsafeSlow(size);
    const bytes = scratch.subarray(0, size);
    for (let at = 0; at < size; ) {
      const count = readSync(fd, bytes, at, size - at, at);
      if (count === 0) return { problem: 'its file cannot be read to the end', bytes: at };
      at += count;
    }
    if (!isDigestOf(key, bytes)) return { problem: ROTTEN, bytes: size };
    return { bytes: size, size };
  } finally {
    closeSync(fd);
  }
}
