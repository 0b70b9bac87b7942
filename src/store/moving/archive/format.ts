import { crc32 } from 'node:zlib';
import { MAX_CHUNK_LENGTH } from '../../../castore/blob/service.ts';
import { DIGEST_LENGTH, Digest } from '../../../castore/digest.ts';

/**
 * A backup in one file: this line, then records one after another. A record is a header (numbers little-endian) and its
 * payload:
 *
 *   kind u8 | 0 u8 u8 u8 | length of the payload u32 | digest 32 | crc u32 of all before
 *
 *   directory   an encoded directory, by its digest
 *   chunk       a chunk, by its digest
 *   list        the chunks of a blob of several (digest 32, size u32 each), by the digest of the blob
 *   path info   an encoded PathInfo, by the digest of that
 *   root        a JSON object with its name, store path and end, by the digest of that
 *   end         a JSON object: a backup has come to its end
 *
 * What is referred to comes first. Each backup adds to the file; the roots are those of the last one that came to its end.
 */
export const MAGIC = Buffer.from('tvix-store backup 1\n');

export const RECORD = { directory: 1, chunk: 2, list: 3, pathInfo: 4, root: 5, end: 6 } as const;
export type RecordKind = (typeof RECORD)[keyof typeof RECORD];

export const HEADER_LENGTH = 44;
const CRC_AT = HEADER_LENGTH - 4;
const DIGEST_AT = 8;
/** As long as a directory may be, the longest of all. */
const MAX_PAYLOAD = 256 << 20;

export interface RecordHeader {
  readonly kind: RecordKind;
  readonly length: number;
  readonly digest: Digest;
}

export function encodeHeader({ kind, length, digest }: RecordHeader): Buffer {
  const header = Buffer.alloc(HEADER_LENGTH);
  header[0] = kind;
  header.writeUInt32LE(length, 4);
  header.set(digest.bytes, DIGEST_AT);
  header.writeUInt32LE(crc32(header.subarray(0, CRC_AT)), CRC_AT);
  return header;
}

/** `undefined` for what is no header. */
export function decodeHeader(bytes: Buffer): RecordHeader | undefined {
  const kind = bytes[0] as RecordKind;
  const length = bytes.readUInt32LE(4);
  const isSound = crc32(bytes.subarray(0, CRC_AT)) === bytes.readUInt32LE(CRC_AT);
  const most = kind === RECORD.chunk ? MAX_CHUNK_LENGTH : MAX_PAYLOAD;
  if (!isSound || kind < RECORD.directory || kind > RECORD.end || length > most) return undefined;
  const digest = Digest.of(Uint8Array.from(bytes.subarray(DIGEST_AT, DIGEST_AT + DIGEST_LENGTH)));
  return { kind, length, digest };
}
