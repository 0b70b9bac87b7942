import { asBuffer } from '../../util/bytes.ts';
import type { StoreError } from '../../util/errors.ts';
import { invalid } from '../../util/errors.ts';
import { paddingLength } from './tokens.ts';

const LENGTH_BYTES = 8;
const EMPTY: Buffer = Buffer.alloc(0);

/** A place in a NAR that comes in pieces. What is not there whole is kept until the next piece, and no more. */
export class Cursor {
  #buffer = EMPTY;
  #at = 0;
  /** Byte of the NAR at which the buffer starts. */
  #base = 0;
  /** The beginning of what is not there whole, and how many bytes of it at least are still to come. */
  #carry = EMPTY;
  #missing = 0;

  /** Byte of the NAR. */
  get offset(): number {
    return this.#base + this.#at;
  }

  /** Bytes of the NAR so far. */
  get received(): number {
    return this.#base + this.#carry.length;
  }

  /** Takes steps over a new piece, as long as they are possible. */
  feed(bytes: Uint8Array, step: () => boolean): void {
    const input = asBuffer(bytes);
    let from = 0;
    while (this.#carry.length > 0 && from < input.length) {
      const more = input.subarray(from, from + this.#missing);
      from += more.length;
      this.#run(Buffer.concat([this.#carry, more]), step);
    }
    if (from < input.length) this.#run(input.subarray(from), step);
  }

  #run(buffer: Buffer, step: () => boolean): void {
    this.#buffer = buffer;
    this.#at = 0;
    while (step());
    this.#base += this.#at;
    // A copy, so that not all of the buffer is kept for it, and whoever gave it may use it again.
    this.#carry = this.#at < buffer.length ? Buffer.from(buffer.subarray(this.#at)) : EMPTY;
    this.#buffer = EMPTY;
    this.#at = 0;
  }

  /** Whether nothing is left for now. */
  get empty(): boolean {
    return this.#at === this.#buffer.length;
  }

  /** The length that stands here, exact as far as a number can be; undefined when it is not there whole. */
  length(): number | undefined {
    if (!this.#has(LENGTH_BYTES)) return undefined;
    return this.#buffer.readUInt32LE(this.#at) + this.#buffer.readUInt32LE(this.#at + 4) * 2 ** 32;
  }

  /** The length that stands here, exactly, for people. */
  exactLength(): bigint {
    return this.#buffer.readBigUInt64LE(this.#at);
  }

  skipLength(): void {
    this.#at += LENGTH_BYTES;
  }

  /** The string that stands here, of this length; undefined when it is not there whole with its padding. */
  string(length: number): Uint8Array | undefined {
    if (!this.#has(LENGTH_BYTES + length + paddingLength(length))) return undefined;
    const start = this.#at + LENGTH_BYTES;
    return this.#buffer.subarray(start, start + length);
  }

  /** Goes behind a string. Throws INVALID_ARGUMENT when its padding is not zero. */
  skipString(length: number): void {
    this.#at += LENGTH_BYTES + length;
    this.skipPadding(paddingLength(length));
  }

  /** Goes behind so many zeros; false when they are not there whole. Throws INVALID_ARGUMENT for other bytes. */
  skipPadding(length: number): boolean {
    if (!this.#has(length)) return false;
    for (const end = this.#at + length; this.#at < end; this.#at++) {
      if (this.#buffer[this.#at] !== 0) throw this.invalid('the padding is not zero');
    }
    return true;
  }

  /** Goes behind these bytes, if they stand here; undefined when they are not there whole. */
  skip(bytes: Uint8Array): boolean | undefined {
    if (!this.#has(bytes.length)) return undefined;
    for (let i = 0; i < bytes.length; i++) if (this.#buffer[this.#at + i] !== bytes[i]) return false;
    this.#at += bytes.length;
    return true;
  }

  /** At most so many bytes: those that are there, in one piece. */
  take(most: number): Uint8Array {
    const bytes = this.#buffer.subarray(this.#at, this.#at + most);
    this.#at += bytes.length;
    return bytes;
  }

  /** Whether so many bytes are there; notes how many are missing otherwise. */
  #has(count: number): boolean {
    this.#missing = this.#at + count - this.#buffer.length;
    return this.#missing <= 0;
  }

  invalid(problem: string): StoreError {
    return invalid(`invalid NAR at byte ${this.offset}: ${problem}`);
  }
}
