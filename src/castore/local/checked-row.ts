import { crc32 } from 'node:zlib';
import { asBuffer } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';

const CHECKSUM_LENGTH = 4;

/** A row of a table of the local store that its key does not verify: the bytes and their CRC-32. */
export function checkedRow(...parts: Uint8Array[]): Buffer {
  const row = Buffer.concat([...parts, Buffer.alloc(CHECKSUM_LENGTH)]);
  const end = row.length - CHECKSUM_LENGTH;
  row.writeUInt32LE(crc32(row.subarray(0, end)), end);
  return row;
}

/** The bytes in such a row, of which there must be `least`. Throws DATA_LOSS, by the name of `what`, for a damaged one. */
export function parseCheckedRow(bytes: Uint8Array, least: number, what: string): Buffer {
  const row = asBuffer(bytes);
  const body = row.subarray(0, Math.max(0, row.length - CHECKSUM_LENGTH));
  if (body.length < least || row.length < CHECKSUM_LENGTH || crc32(body) !== row.readUInt32LE(body.length)) {
    throw damaged(`the local store's row of ${what} is damaged`);
  }
  return body;
}
