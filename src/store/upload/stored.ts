import { crc32 } from 'node:zlib';
import type { Bytes } from '../../util/compression/through.ts';

/** Contents that can be read in part. */
export interface Contents {
  /** Bytes. */
  readonly length: number;
  /** Of all bytes. Only gzip has need of it. */
  readonly crc32: number;
  read(start: number, end: number, signal: AbortSignal | undefined): Bytes;
}

/** A compressed file that compresses nothing: what stands round the pieces of the contents. */
interface Format {
  /** Of a piece, in bytes. All but the last are as long. */
  readonly pieceLength: number;
  /** Of what stands before each piece. */
  readonly headLength: number;
  begin(length: number): Buffer;
  head(length: number, isFirst: boolean, isLast: boolean): Buffer;
  end(contents: Contents, pieces: number): Buffer;
}

const XZ_FLAGS = Buffer.from([0, 0]);
const XZ_BLOCK = sealed(Buffer.from([2, 0, 0x21, 1, 8, 0, 0, 0]));

/** RFC 1952 and 1951, RFC 8878, RFC 7932, and the formats of xz and LZ4; all but gzip without a checksum. */
const FORMATS = {
  xz: {
    pieceLength: 1 << 16,
    headLength: 3,
    begin: () => Buffer.concat([Buffer.from('fd377a585a00', 'hex'), sealed(XZ_FLAGS), XZ_BLOCK]),
    head: (length, isFirst) => Buffer.from([isFirst ? 1 : 2, (length - 1) >> 8, (length - 1) & 0xff]),
    end({ length }, pieces) {
      const packed = length + pieces * this.headLength + 1;
      const index = [0, 1, ...xzNumber(XZ_BLOCK.length + packed), ...xzNumber(length)];
      const sealedIndex = sealed(padded(Buffer.from(index)));
      const backward = Buffer.alloc(6);
      backward.writeUInt32LE(sealedIndex.length / 4 - 1);
      const footer = [checksum(backward), backward, Buffer.from('YZ')];
      return Buffer.concat([Buffer.alloc(1 + (-packed & 3)), sealedIndex, ...footer]);
    },
  },
  zstd: {
    pieceLength: 1 << 17,
    headLength: 3,
    begin(length) {
      const begin = Buffer.from('28b52ffdc0380000000000000000', 'hex');
      begin.writeBigUInt64LE(BigInt(length), 6);
      return begin;
    },
    head(length, _isFirst, isLast) {
      const head = Buffer.alloc(3);
      head.writeUIntLE((length << 3) | (isLast ? 1 : 0), 0, 3);
      return head;
    },
    end: () => Buffer.alloc(0),
  },
  gzip: {
    pieceLength: 0xffff,
    headLength: 5,
    begin: () => Buffer.from('1f8b08000000000000ff', 'hex'),
    head: (length, _isFirst, isLast) =>
      Buffer.from([isLast ? 1 : 0, length & 0xff, length >> 8, ~length & 0xff, (~length >> 8) & 0xff]),
    end({ length, crc32 }) {
      const end = Buffer.alloc(8);
      end.writeUInt32LE(crc32, 0);
      end.writeUInt32LE(length % 2 ** 32, 4);
      return end;
    },
  },
  lz4: {
    pieceLength: 1 << 16,
    headLength: 4,
    begin: () => Buffer.from('04224d18604082', 'hex'),
    head(length) {
      const head = Buffer.alloc(4);
      head.writeUInt32LE(2 ** 31 + length);
      return head;
    },
    end: () => Buffer.alloc(4),
  },
  br: {
    pieceLength: 1 << 16,
    headLength: 3,
    begin: () => Buffer.alloc(0),
    head(length, isFirst) {
      // The first one has the window's size before it, in one bit.
      const bits = ((length - 1) << 3) | (1 << 19);
      const head = Buffer.alloc(3);
      head.writeUIntLE(isFirst ? bits << 1 : bits, 0, 3);
      return head;
    },
    end: () => Buffer.from([3]),
  },
} satisfies Record<string, Format>;

/** A compression in which something can be stored as it is. */
export type StoredFormat = keyof typeof FORMATS;

/** Length of such a file round these contents, of which there must be some. */
export function storedLength(name: StoredFormat, contents: Contents): number {
  const format: Format = FORMATS[name];
  const pieces = Math.ceil(contents.length / format.pieceLength);
  const around = format.begin(contents.length).length + format.end(contents, pieces).length;
  return around + pieces * format.headLength + contents.length;
}

/** The bytes from `start` to `end` of such a file; of the contents nothing else is read. */
export async function* storedFile(
  name: StoredFormat,
  contents: Contents,
  start: number,
  end: number,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const format: Format = FORMATS[name];
  const { length } = contents;
  const pieces = Math.ceil(length / format.pieceLength);
  const begin = format.begin(length);
  const whole = format.headLength + format.pieceLength;
  const first = Math.max(0, Math.min(pieces - 1, Math.floor((start - begin.length) / whole)));
  let position = first === 0 ? 0 : begin.length + first * whole;
  const within = (bytes: Uint8Array) => {
    const part = bytes.subarray(Math.max(0, start - position), Math.max(0, end - position));
    position += bytes.length;
    return part;
  };
  if (first === 0) yield within(begin);
  let at = first * format.pieceLength;
  for await (const part of contents.read(at, Math.min(length, Math.max(at, end)), signal)) {
    for (let from = 0; from < part.length && position < end; ) {
      const inPiece = at % format.pieceLength;
      const left = Math.min(format.pieceLength, length - (at - inPiece)) - inPiece;
      const bytes = part.subarray(from, from + left);
      from += bytes.length;
      if (inPiece === 0) {
        const head = format.head(left, at === 0, at + left === length);
        yield within(Buffer.concat([head, bytes]));
      } else yield within(bytes);
      at += bytes.length;
    }
  }
  if (position < end) yield within(format.end(contents, pieces));
}

/** CRC-32, as xz has it behind what it is of. */
function checksum(bytes: Buffer): Buffer {
  const sum = Buffer.alloc(4);
  sum.writeUInt32LE(crc32(bytes));
  return sum;
}

function sealed(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, checksum(bytes)]);
}

/** Filled up to a multiple of 4. */
function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}

/** Seven bits a byte, the lowest first. */
function xzNumber(number: number): number[] {
  const bytes: number[] = [];
  for (; number >= 0x80; number = Math.floor(number / 0x80)) bytes.push((number % 0x80) | 0x80);
  return [...bytes, number];
}
