import { asBuffer } from '../../util/bytes.ts';
import { invalid, StoreError } from '../../util/errors.ts';

/** Longest text: names, messages and settings are far below it. */
const MAX_TEXT_LENGTH = 1 << 20;
/** Most members of a list: no closure has as many. */
const MAX_COUNT = 1 << 20;
/** Most bytes of the texts of one request: more would only fill the memory. */
const MAX_REQUEST_LENGTH = 16 << 20;
/** What a text takes in memory besides its bytes. */
const TEXT_COST = 32;

/**
 * Reads the values that Nix's worker protocol consists of: numbers of 64 bits, little-endian, and texts, each a length,
 * bytes and zeros up to a multiple of 8. Nothing is allocated for what has not come.
 */
export class WireReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #part: Buffer = Buffer.alloc(0);
  /** How much of it has been read. */
  #at = 0;
  #budget = MAX_REQUEST_LENGTH;
  #take: ((bytes: number) => Promise<void> | undefined) | undefined;

  constructor(source: AsyncIterator<Uint8Array>) {
    this.#source = source;
  }

  /** Begins a request, with room for its texts. `take` is asked for memory before one is read. */
  begin(take?: (bytes: number) => Promise<void> | undefined): void {
    this.#budget = MAX_REQUEST_LENGTH;
    this.#take = take;
  }

  /** Whether nothing more comes, where a request may begin. */
  async isAtEnd(): Promise<boolean> {
    return this.#left === 0 && !(await this.#more());
  }

  async number(): Promise<bigint> {
    if (this.#left < 8) await this.#gather(8);
    return this.#part.readBigUInt64LE(this.#pass(8));
  }

  /** A number that must not exceed a limit. */
  async count(what: string, most = Number.MAX_SAFE_INTEGER): Promise<number> {
    if (this.#left < 8) await this.#gather(8);
    return this.#count(what, most);
  }

  async flag(): Promise<boolean> {
    return (await this.number()) !== 0n;
  }

  async text(): Promise<string> {
    if (this.#left < 8) await this.#gather(8);
    const length = this.#count('the length of a text', MAX_TEXT_LENGTH);
    this.#budget -= length + 8;
    if (this.#budget < 0) throw new StoreError('RESOURCE_EXHAUSTED', 'a request is too large');
    const room = this.#take?.(length + TEXT_COST);
    if (room) await room;
    const padded = length + (-length & 7);
    if (this.#left < padded) await this.#gather(padded);
    const start = this.#pass(padded);
    const end = start + length;
    const text = this.#part.toString('utf8', start, end);
    if (Buffer.byteLength(text) !== length || text.includes('\ufffd')) throw invalid('a text is not UTF-8');
    for (let at = end; at < start + padded; at++)
      if (this.#part[at] !== 0) throw invalid('padding that is not zero');
    return text;
  }

  async texts(): Promise<string[]> {
    const count = await this.count('the length of a list', MAX_COUNT);
    const texts: string[] = [];
    for (let i = 0; i < count; i++) texts.push(await this.text());
    return texts;
  }

  /** So many bytes, which stay what they are only until the next are asked for. */
  async bytes(length: number): Promise<Buffer> {
    if (this.#left < length) await this.#gather(length);
    const start = this.#pass(length);
    return this.#part.subarray(start, start + length);
  }

  /** So many bytes in pieces as they come. */
  async *pieces(length: number): AsyncGenerator<Buffer> {
    for (let left = length; left > 0; ) {
      if (this.#left === 0 && !(await this.#more()))
        throw new StoreError('CANCELLED', 'the client has hung up');
      const start = this.#pass(Math.min(left, this.#left));
      left -= this.#at - start;
      yield this.#part.subarray(start, this.#at);
    }
  }

  get #left(): number {
    return this.#part.length - this.#at;
  }

  /** Passes over so many bytes, which are there, and gives where they begin. */
  #pass(length: number): number {
    const start = this.#at;
    this.#at += length;
    return start;
  }

  /** A number that is there, as one that every number can be. */
  #count(what: string, most: number): number {
    const at = this.#pass(8);
    const number = this.#part.readUInt32LE(at) + this.#part.readUInt32LE(at + 4) * 2 ** 32;
    if (number > most)
      throw invalid(`${what} is ${this.#part.readBigUInt64LE(at)}, no more than ${most} is possible`);
    return number;
  }

  /** Waits until so many bytes are there. */
  async #gather(length: number): Promise<void> {
    const parts: Buffer[] = [];
    let have = 0;
    while (have + this.#left < length) {
      parts.push(this.#part.subarray(this.#at));
      have += this.#left;
      if (!(await this.#more())) throw new StoreError('CANCELLED', 'the client has hung up');
    }
    this.#part = Buffer.concat([...parts, this.#part], have + this.#left);
    this.#at = 0;
  }

  /** Puts the next part that comes behind nothing. */
  async #more(): Promise<boolean> {
    for (;;) {
      const { value, done } = await this.#source.next();
      if (done) return false;
      if (value.length === 0) continue;
      this.#part = asBuffer(value);
      this.#at = 0;
      return true;
    }
  }
}

/** A stream within a request, in frames that each have their length before them; the last is empty. */
export class Frames implements AsyncIterator<Uint8Array> {
  readonly #from: WireReader;
  #pieces: AsyncGenerator<Buffer> | undefined;
  #isOver = false;

  constructor(from: WireReader) {
    this.#from = from;
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    while (!this.#isOver) {
      const piece = await this.#pieces?.next();
      if (piece && !piece.done) return { value: piece.value, done: false };
      const length = await this.#from.count('the length of a frame');
      if (length === 0) this.#isOver = true;
      else this.#pieces = this.#from.pieces(length);
    }
    return { value: undefined, done: true };
  }

  /** Reads on to the end; what is there is of no use to anybody. */
  async skip(): Promise<void> {
    while (!(await this.next()).done);
  }
}
