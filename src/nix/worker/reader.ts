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
    return this.#part.length === 0 && !(await this.#more());
  }

  async number(): Promise<bigint> {
    if (this.#part.length < 8) await this.#gather(8);
    return this.#cut(8).readBigUInt64LE();
  }

  /** A number that must not exceed a limit. */
  async count(what: string, most = Number.MAX_SAFE_INTEGER): Promise<number> {
    const number = await this.number();
    if (number > BigInt(most)) throw invalid(`${what} is ${number}, no more than ${most} is possible`);
    return Number(number);
  }

  async flag(): Promise<boolean> {
    return (await this.number()) !== 0n;
  }

  async text(): Promise<string> {
    const length = await this.count('the length of a text', MAX_TEXT_LENGTH);
    this.#budget -= length + 8;
    if (this.#budget < 0) throw new StoreError('RESOURCE_EXHAUSTED', 'a request is too large');
    const room = this.#take?.(length + TEXT_COST);
    if (room) await room;
    const padded = length + (-length & 7);
    if (this.#part.length < padded) await this.#gather(padded);
    const bytes = this.#cut(padded);
    const text = bytes.toString('utf8', 0, length);
    if (Buffer.byteLength(text) !== length || text.includes('\ufffd')) throw invalid('a text is not UTF-8');
    for (let at = length; at < padded; at++) if (bytes[at] !== 0) throw invalid('padding that is not zero');
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
    if (this.#part.length < length) await this.#gather(length);
    return this.#cut(length);
  }

  /** Waits until so many bytes are there. */
  async #gather(length: number): Promise<void> {
    const parts = [this.#part];
    let have = this.#part.length;
    while (have < length) {
      if (!(await this.#more())) throw new StoreError('CANCELLED', 'the client has hung up');
      parts.push(this.#part);
      have += this.#part.length;
    }
    this.#part = Buffer.concat(parts, have);
  }

  #cut(length: number): Buffer {
    const bytes = this.#part.subarray(0, length);
    this.#part = this.#part.subarray(length);
    return bytes;
  }

  /** So many bytes in pieces as they come. */
  async *pieces(length: number): AsyncGenerator<Buffer> {
    for (let left = length; left > 0; ) {
      if (this.#part.length === 0 && !(await this.#more()))
        throw new StoreError('CANCELLED', 'the client has hung up');
      const piece = this.#part.subarray(0, left);
      this.#part = this.#part.subarray(piece.length);
      left -= piece.length;
      yield piece;
    }
  }

  /** Puts the next part that comes behind nothing. */
  async #more(): Promise<boolean> {
    for (;;) {
      const { value, done } = await this.#source.next();
      if (done) return false;
      if (value.length === 0) continue;
      this.#part = Buffer.from(value.buffer as ArrayBuffer, value.byteOffset, value.length);
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
