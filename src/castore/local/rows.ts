import { crc32 } from 'node:zlib';
import { asBuffer, toHex } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import type { Chunk } from '../blob/service.ts';
import { DIGEST_LENGTH, Digest } from '../digest.ts';

/**
 * Rows of the local store's tables (all numbers little-endian). Every row begins with the epoch, which the
 * collector compares (design: deleting safely). What the key does not verify ends in a CRC-32.
 *
 *   directory  epoch u32 | encoded directory
 *   manifest   epoch u32 | (digest 32, size u32) for each chunk | crc u32
 *   outboard   the same, of the chunks that the outboard of a blob is cut into; they lie among the others
 *   chunk      epoch u32 | 0 | bytes                                             up to 64 KiB
 *              epoch u32 | 1 | size u32 | suffix 8 | boot u32 | crc u32          in a chunk file
 *
 * `boot` is 0 for what was acknowledged, that is, on disk. A cache fill carries a tag of the boot it was
 * written under: after another boot its file may be torn and is hashed again before use.
 */

export const EPOCH_LENGTH = 4;
const INLINE = 0;
const FILE = 1;
const SUFFIX_LENGTH = 8;
const FILE_ROW_LENGTH = 25;
const MANIFEST_ENTRY_LENGTH = DIGEST_LENGTH + 4;

/** Where a chunk lies. */
export type ChunkRow =
  | { readonly kind: 'inline'; readonly epoch: number; readonly bytes: Uint8Array }
  | {
      readonly kind: 'file';
      readonly epoch: number;
      readonly size: number;
      /** Ends the file's name. */
      readonly suffix: string;
      /** 0, or the boot under which the file was written without being synced. */
      readonly boot: number;
    };

export function rowEpoch(row: Uint8Array): number {
  return asBuffer(row).readUInt32LE(0);
}

/** A copy of a row, with another epoch. */
export function withEpoch(row: Uint8Array, epoch: number): Buffer {
  const copy = Buffer.from(row);
  copy.writeUInt32LE(epoch, 0);
  return copy;
}

/** Puts the checksum at the end. It leaves the epoch out, which changes. */
function sealRow(row: Buffer): void {
  row.writeUInt32LE(crc32(row.subarray(EPOCH_LENGTH, row.length - 4)), row.length - 4);
}

/** A row of another layer's: epoch u32 | body | crc u32. */
export function sealedRow(epoch: number, body: Uint8Array): Uint8Array {
  const row = Buffer.alloc(EPOCH_LENGTH + body.length + 4);
  row.writeUInt32LE(epoch, 0);
  row.set(body, EPOCH_LENGTH);
  sealRow(row);
  return row;
}

/** Its body; `undefined` when it is damaged. */
export function sealedBody(bytes: Uint8Array): Buffer | undefined {
  const row = asBuffer(bytes);
  return isSealed(row) ? row.subarray(EPOCH_LENGTH, row.length - 4) : undefined;
}

function isSealed(row: Buffer): boolean {
  if (row.length < EPOCH_LENGTH + 4) return false;
  return crc32(row.subarray(EPOCH_LENGTH, row.length - 4)) === row.readUInt32LE(row.length - 4);
}

function checkRow(row: Buffer, what: string, digest: Uint8Array): void {
  if (isSealed(row)) return;
  throw damaged(`the local store's ${what} row of ${toHex(digest)} is damaged`);
}

export function directoryRow(epoch: number, encoded: Uint8Array): Uint8Array {
  const row = Buffer.allocUnsafe(EPOCH_LENGTH + encoded.length);
  row.writeUInt32LE(epoch, 0);
  row.set(encoded, EPOCH_LENGTH);
  return row;
}

export function inlineRow(epoch: number, bytes: Uint8Array): Uint8Array {
  const row = Buffer.allocUnsafe(EPOCH_LENGTH + 1 + bytes.length);
  row.writeUInt32LE(epoch, 0);
  row[EPOCH_LENGTH] = INLINE;
  row.set(bytes, EPOCH_LENGTH + 1);
  return row;
}

export function fileRow(epoch: number, size: number, suffix: string, boot: number): Uint8Array {
  const row = Buffer.alloc(FILE_ROW_LENGTH);
  row.writeUInt32LE(epoch, 0);
  row[EPOCH_LENGTH] = FILE;
  row.writeUInt32LE(size, 5);
  row.write(suffix, 9, SUFFIX_LENGTH, 'latin1');
  row.writeUInt32LE(boot, 17);
  sealRow(row);
  return row;
}

/** Reads a chunk row; inline bytes are a view of it. Throws DATA_LOSS for a damaged one. */
export function parseChunkRow(bytes: Uint8Array, digest: Uint8Array): ChunkRow {
  const row = asBuffer(bytes);
  if (row[EPOCH_LENGTH] === INLINE) {
    return { kind: 'inline', epoch: rowEpoch(row), bytes: row.subarray(EPOCH_LENGTH + 1) };
  }
  checkRow(row, 'chunk', digest);
  return {
    kind: 'file',
    epoch: rowEpoch(row),
    size: row.readUInt32LE(5),
    suffix: row.toString('latin1', 9, 9 + SUFFIX_LENGTH),
    boot: row.readUInt32LE(17),
  };
}

/** Where the file of a chunk's row is; `undefined` when it has none, or is damaged. */
export function fileOf(digest: Uint8Array, bytes: Uint8Array): (ChunkRow & { kind: 'file' }) | undefined {
  try {
    const row = parseChunkRow(bytes, digest);
    return row.kind === 'file' ? row : undefined;
  } catch {
    return undefined;
  }
}

export function manifestRow(epoch: number, chunks: readonly Chunk[]): Uint8Array {
  const row = Buffer.allocUnsafe(EPOCH_LENGTH + chunks.length * MANIFEST_ENTRY_LENGTH + 4);
  row.writeUInt32LE(epoch, 0);
  let at = EPOCH_LENGTH;
  for (const chunk of chunks) {
    row.set(chunk.digest.bytes, at);
    at = row.writeUInt32LE(chunk.size, at + DIGEST_LENGTH);
  }
  sealRow(row);
  return row;
}

/** Reads a chunk list, one by one: the row must stay as it is. Throws DATA_LOSS at once for a damaged one. */
export function parseManifestRow(bytes: Uint8Array, digest: Uint8Array): Generator<Chunk> {
  const row = asBuffer(bytes);
  checkRow(row, 'manifest', digest);
  return manifestChunks(row);
}

function* manifestChunks(row: Buffer): Generator<Chunk> {
  for (let at = EPOCH_LENGTH; at + MANIFEST_ENTRY_LENGTH <= row.length; at += MANIFEST_ENTRY_LENGTH) {
    const chunk = Digest.of(Uint8Array.from(row.subarray(at, at + DIGEST_LENGTH)));
    yield { digest: chunk, size: row.readUInt32LE(at + DIGEST_LENGTH) };
  }
}
