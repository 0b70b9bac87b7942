import type { Bytes } from './through.ts';

const MAGIC = 0x184d2204;
/** Frames of other programs, to be passed over: the lowest four bits are free. */
const SKIPPABLE = 0x184d2a50;
/** A block may refer to what stands so far before it, in bytes. */
const WINDOW = 1 << 16;
/** Lengths of blocks, by their number in the frame's head. */
const FIRST_SIZE = 4;
const LAST_SIZE = 7;
const UNCOMPRESSED = 2 ** 31;
const FLAG = {
  VERSION: 0xc0,
  CURRENT: 0x40,
  BLOCK_CHECKSUM: 0x10,
  LENGTH: 8,
  CHECKSUM: 4,
  RESERVED: 2,
  DICTIONARY: 1,
};
const MIN_MATCH = 4;

/**
 * Undoes LZ4, in frames, one block at a time. Checksums are passed over: what comes out has a hash of its own wherever
 * this is used. Throws for what is not of that form, or cut short.
 */
export async function* decompressLz4(source: Bytes): AsyncGenerator<Uint8Array> {
  const input = new Input(source);
  try {
    let frames = 0;
    while (!(await input.isAtEnd()) || frames === 0) {
      const magic = (await input.take(4)).readUInt32LE();
      if (magic === MAGIC) yield* frame(input);
      else if ((magic & ~0xf) === SKIPPABLE) await input.skip((await input.take(4)).readUInt32LE());
      else throw new Error('not in the LZ4 frame format');
      frames++;
    }
  } finally {
    await input.end();
  }
}

async function* frame(input: Input): AsyncGenerator<Uint8Array> {
  const [flags, descriptor] = (await input.take(2)) as unknown as [number, number];
  if ((flags & FLAG.VERSION) !== FLAG.CURRENT || flags & FLAG.RESERVED)
    throw new Error('another version of the format');
  if (flags & FLAG.DICTIONARY) throw new Error('it needs a dictionary');
  const size = (descriptor >> 4) & 7;
  if (size < FIRST_SIZE || size > LAST_SIZE) throw new Error('an unknown length of blocks');
  const most = 1 << (8 + 2 * size);
  // What comes before a block stands before it here.
  const memory = Buffer.allocUnsafeSlow(WINDOW + most);
  let before = 0;
  await input.skip((flags & FLAG.LENGTH ? 8 : 0) + 1);
  for (;;) {
    const head = (await input.take(4)).readUInt32LE();
    if (head === 0) break;
    const length = head % UNCOMPRESSED;
    if (length > most) throw new Error('a block is too long');
    const block = await input.take(length);
    const end =
      head >= UNCOMPRESSED
        ? before + block.copy(memory, before)
        : decodeBlock(block, memory, before, before + most);
    yield Buffer.from(memory.subarray(before, end));
    if (flags & FLAG.BLOCK_CHECKSUM) await input.skip(4);
    const kept = Math.min(end, WINDOW);
    memory.copyWithin(0, end - kept, end);
    before = kept;
  }
  if (flags & FLAG.CHECKSUM) await input.skip(4);
}

/** Writes what a block becomes to `target` from `at` on, up to `limit`; gives the end. Before `at` stands what came before. */
function decodeBlock(block: Buffer, target: Buffer, at: number, limit: number): number {
  let next = 0;
  const byte = () => {
    if (next === block.length) throw new Error('a block ends too early');
    return block[next++]!;
  };
  const long = (length: number) => {
    if (length < 15) return length;
    for (let more = 255; more === 255; ) {
      more = byte();
      length += more;
    }
    return length;
  };
  for (;;) {
    const token = byte();
    const literals = long(token >> 4);
    if (next + literals > block.length || at + literals > limit)
      throw new Error('a block is longer than it may be');
    block.copy(target, at, next, next + literals);
    next += literals;
    at += literals;
    if (next === block.length) return at;
    const distance = byte() | (byte() << 8);
    const from = at - distance;
    const length = long(token & 15) + MIN_MATCH;
    if (distance === 0 || from < 0) throw new Error('a block refers to what is not there');
    if (at + length > limit) throw new Error('a block is longer than it may be');
    if (distance >= length) target.copyWithin(at, from, from + length);
    // It repeats itself.
    else for (let i = 0; i < length; i++) target[at + i] = target[from + i]!;
    at += length;
  }
}

/** A stream, taken piece by piece. */
class Input {
  readonly #parts: AsyncIterator<Uint8Array>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(source: Bytes) {
    this.#parts = source[Symbol.asyncIterator]();
  }

  async isAtEnd(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const { value, done } = await this.#parts.next();
      if (done) return true;
      this.#rest = Buffer.from(value.buffer as ArrayBuffer, value.byteOffset, value.length);
    }
    return false;
  }

  /** So many bytes, which stay what they are only until the next are taken. */
  async take(length: number): Promise<Buffer> {
    if (this.#rest.length < length) {
      const bytes = Buffer.allocUnsafe(length);
      for (let have = 0; have < length; ) {
        if (await this.isAtEnd()) throw new Error('it ends too early');
        const part = this.#rest.subarray(0, length - have);
        this.#rest = this.#rest.subarray(part.length);
        have += part.copy(bytes, have);
      }
      return bytes;
    }
    const bytes = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return bytes;
  }

  async skip(length: number): Promise<void> {
    while (length > 0) {
      if (await this.isAtEnd()) throw new Error('it ends too early');
      const part = this.#rest.subarray(0, length);
      this.#rest = this.#rest.subarray(part.length);
      length -= part.length;
    }
  }

  async end(): Promise<void> {
    await this.#parts.return?.();
  }
}
