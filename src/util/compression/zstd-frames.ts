import { asBuffer } from '../bytes.ts';
import { damaged } from '../errors.ts';

/** Bytes of a zstd frame, and whether it ends with them. */
export interface FramePart {
  readonly bytes: Uint8Array;
  readonly last: boolean;
}

const MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const SKIPPABLE_HEADER = 8;
const BLOCK_HEADER = 3;
const BLOCK_OF_ONE_BYTE = 1;
const CHECKSUM = 4;
/** The largest window that zstd allows by default, in bytes. */
const MAX_WINDOW = 128 << 20;

/**
 * Finds where the frames of a zstd stream end (RFC 8878), for decoders that know of one frame only, or that
 * give a header whatever memory it asks for. Throws DATA_LOSS for what is not zstd, wants too large a
 * window, or is cut short.
 */
export class FrameSplitter {
  #held: Buffer = Buffer.alloc(0);
  #at: 'header' | 'block' | 'last block' | 'skippable' = 'header';
  /** Bytes until the next header. */
  #rest = 0;
  #checksum = 0;

  *push(part: Uint8Array): Generator<FramePart> {
    const bytes = this.#held.length > 0 ? Buffer.concat([this.#held, part]) : asBuffer(part);
    let start = 0;
    let end = 0;
    for (;;) {
      const step = Math.min(this.#rest, bytes.length - end);
      end += step;
      this.#rest -= step;
      if (this.#rest > 0) break;
      if (this.#at === 'last block') yield { bytes: bytes.subarray(start, end), last: true };
      if (this.#at === 'last block' || this.#at === 'skippable') {
        start = end;
        this.#at = 'header';
      }
      const length = this.#at === 'header' ? this.#header(bytes.subarray(end)) : this.#block(bytes, end);
      if (length === undefined) break;
      this.#rest = length;
    }
    if (end > start && this.#at !== 'skippable') yield { bytes: bytes.subarray(start, end), last: false };
    this.#held = Buffer.from(bytes.subarray(end));
  }

  /** To be called at the end of the stream. */
  finish(): void {
    if (this.#at !== 'header' || this.#rest > 0 || this.#held.length > 0)
      throw damaged('a zstd stream is cut short');
  }

  /** Length of the header of a frame, or of a whole skippable one; `undefined` when there is too little yet. */
  #header(bytes: Buffer): number | undefined {
    if (bytes.length < 5) return undefined;
    const magic = bytes.readUInt32LE(0);
    if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE_MAGIC) {
      if (bytes.length < SKIPPABLE_HEADER) return undefined;
      this.#at = 'skippable';
      return SKIPPABLE_HEADER + bytes.readUInt32LE(4);
    }
    if (magic !== MAGIC) throw damaged('invalid zstd data: no frame begins here');
    const descriptor = bytes[4]!;
    const singleSegment = (descriptor & 0x20) !== 0;
    const sizeAt = 5 + (singleSegment ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]!;
    const sizeLength = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
    if (bytes.length < sizeAt + sizeLength) return undefined;
    const window = singleSegment ? contentSize(bytes, sizeAt, sizeLength) : windowSize(bytes[5]!);
    if (window > MAX_WINDOW) throw damaged(`a zstd stream wants a window of ${window} bytes`);
    this.#checksum = (descriptor & 4) !== 0 ? CHECKSUM : 0;
    this.#at = 'block';
    return sizeAt + sizeLength;
  }

  /** Length of a block with its header, and of the frame's checksum when it is the last. */
  #block(bytes: Buffer, at: number): number | undefined {
    if (bytes.length - at < BLOCK_HEADER) return undefined;
    const header = bytes.readUIntLE(at, BLOCK_HEADER);
    const size = ((header >> 1) & 3) === BLOCK_OF_ONE_BYTE ? 1 : header >> 3;
    const isLast = (header & 1) !== 0;
    if (isLast) this.#at = 'last block';
    return BLOCK_HEADER + size + (isLast ? this.#checksum : 0);
  }
}

function windowSize(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

function contentSize(bytes: Buffer, at: number, length: number): number {
  if (length === 8) return Number(bytes.readBigUInt64LE(at));
  return bytes.readUIntLE(at, length) + (length === 2 ? 256 : 0);
}
