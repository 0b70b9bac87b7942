import { createHash } from 'node:crypto';
import { invalid } from '../../util/errors.ts';
import * as token from './tokens.ts';

/** A longer piece goes to a sink as the caller's own memory, without a copy. */
export const STAGE_LENGTH = 128 * 1024;

/** Takes the bytes of a NAR in order. */
export interface NarSink {
  update(bytes: Uint8Array): void;
  /**
   * Memory of `STAGE_LENGTH` bytes for the small pieces that follow, for a sink that holds on to what it took.
   * Without it, they gather where those did that came before.
   */
  nextStage?(): Buffer;
  /** Told that so many bytes of contents are left out; only a sink that allows for it. */
  skip?(length: number): void;
}

/**
 * The NAR of a tree that is walked depth first, in the order of names. It goes to a sink in pieces as it
 * comes, so no file needs to be held in memory.
 */
export class NarWriter {
  readonly #sink: NarSink;
  /** Small pieces gather here: a call a piece would cost more than the hashing. */
  #stage: Buffer;
  #staged = 0;
  #padding = 0;
  /** Length of the NAR so far. */
  size = 0;

  constructor(sink: NarSink) {
    this.#sink = sink;
    this.#stage = sink.nextStage?.() ?? Buffer.allocUnsafeSlow(STAGE_LENGTH);
    this.#write(token.MAGIC);
  }

  beginDirectory(): void {
    this.#write(token.DIRECTORY);
  }

  beginEntry(name: Uint8Array): void {
    this.#write(token.ENTRY);
    this.#string(name);
    this.#write(token.NODE);
  }

  endEntry(): void {
    this.#write(token.CLOSE);
  }

  endDirectory(): void {
    this.#write(token.CLOSE);
  }

  /** Throws INVALID_ARGUMENT for a size that nothing can have. */
  beginFile(size: number, executable: boolean): void {
    if (!Number.isSafeInteger(size)) throw invalid(`a file of ${size} bytes is too large for a NAR`);
    this.#write(token.REGULAR);
    if (executable) this.#write(token.EXECUTABLE);
    this.#write(token.CONTENTS);
    this.#length(this.#reserve(8), size);
    this.#padding = token.paddingLength(size);
  }

  contents(bytes: Uint8Array): void {
    this.#write(bytes);
  }

  /** Leaves out bytes of the contents, if the sink allows for it. */
  skipContents(length: number): void {
    if (length === 0) return;
    this.finish();
    this.size += length;
    this.#sink.skip?.(length);
  }

  endFile(): void {
    this.#zeros(this.#reserve(this.#padding), this.#padding);
    this.#write(token.CLOSE);
  }

  symlink(target: Uint8Array): void {
    this.#write(token.SYMLINK);
    this.#string(target);
    this.#write(token.CLOSE);
  }

  /** Hands everything on. */
  finish(): void {
    if (this.#staged === 0) return;
    this.#sink.update(this.#stage.subarray(0, this.#staged));
    this.#staged = 0;
    if (this.#sink.nextStage) this.#stage = this.#sink.nextStage();
  }

  /** Room in the stage, where it begins. For a few bytes at a time: there are no allocations in here. */
  #reserve(length: number): number {
    if (this.#staged + length > STAGE_LENGTH) this.finish();
    const at = this.#staged;
    this.#staged += length;
    this.size += length;
    return at;
  }

  #length(at: number, length: number): void {
    this.#stage.writeUInt32LE(length % 2 ** 32, at);
    this.#stage.writeUInt32LE(Math.floor(length / 2 ** 32), at + 4);
  }

  #zeros(at: number, count: number): void {
    for (let i = at; i < at + count; i++) this.#stage[i] = 0;
  }

  #string(bytes: Uint8Array): void {
    const padding = token.paddingLength(bytes.length);
    const at = this.#reserve(8 + bytes.length + padding);
    this.#length(at, bytes.length);
    this.#stage.set(bytes, at + 8);
    this.#zeros(at + 8 + bytes.length, padding);
  }

  #write(bytes: Uint8Array): void {
    this.size += bytes.length;
    if (this.#staged + bytes.length > STAGE_LENGTH) this.finish();
    if (bytes.length > STAGE_LENGTH) {
      this.#sink.update(bytes);
      return;
    }
    this.#stage.set(bytes, this.#staged);
    this.#staged += bytes.length;
  }
}

/** SHA-256 of a NAR. */
export class Sha256Sink implements NarSink {
  readonly #hash = createHash('sha256');

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
  }

  digest(): Uint8Array {
    return this.#hash.digest();
  }
}
