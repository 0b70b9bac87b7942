/** Chunks that may be asked for, or hashed and not yet read, at once. */
export const SLOTS = 16;
const DIGEST_LENGTH = 32;
const MAX_PATH_LENGTH = 1024;

/** What is known of a slot's chunk: that it is to be hashed, is being hashed, is what its digest says, or may not be. */
export const STATE = { FREE: 0, WANTED: 1, BUSY: 2, SOUND: 3, FAILED: 4 } as const;

/** Words in front of the slots. */
export const WORD = {
  /** Counts what was asked for. */
  ASKED: 0,
  /** Set when the thread has left. */
  LEFT: 1,
  /** The state of each slot, from here on. */
  STATES: 2,
} as const;

/** A file of so many bytes, which should have this digest. */
export interface NamedChunk {
  readonly path: string;
  readonly size: number;
  readonly digest: Uint8Array;
}

/** Memory in which a thread that serves asks another to hash chunks, and finds the answer. */
export class Slots {
  readonly memory: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly #sizes: Int32Array;
  readonly #pathLengths: Int32Array;
  readonly #names: Buffer;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(LENGTH)) {
    this.memory = memory;
    this.words = new Int32Array(memory, 0, WORD.STATES + SLOTS);
    this.#sizes = new Int32Array(memory, SIZES_AT, SLOTS);
    this.#pathLengths = new Int32Array(memory, SIZES_AT + 4 * SLOTS, SLOTS);
    this.#names = Buffer.from(memory, NAMES_AT, SLOTS * NAME_LENGTH);
  }

  /** Asks for a chunk in a slot that is free. False when its path is too long. */
  ask(slot: number, { path, size, digest }: NamedChunk): boolean {
    if (Buffer.byteLength(path) > MAX_PATH_LENGTH) return false;
    const at = slot * NAME_LENGTH;
    this.#names.set(digest, at);
    this.#pathLengths[slot] = this.#names.write(path, at + DIGEST_LENGTH);
    this.#sizes[slot] = size;
    Atomics.store(this.words, WORD.STATES + slot, STATE.WANTED);
    Atomics.add(this.words, WORD.ASKED, 1);
    Atomics.notify(this.words, WORD.ASKED);
    return true;
  }

  wanted(slot: number): NamedChunk {
    const at = slot * NAME_LENGTH;
    const path = at + DIGEST_LENGTH;
    return {
      digest: this.#names.subarray(at, path),
      path: this.#names.toString('utf8', path, path + this.#pathLengths[slot]!),
      size: this.#sizes[slot]!,
    };
  }

  state(slot: number): number {
    return Atomics.load(this.words, WORD.STATES + slot);
  }

  /** Changes the state of a slot; false when it is not `from` any more. */
  change(slot: number, from: number, to: number): boolean {
    const word = WORD.STATES + slot;
    if (Atomics.compareExchange(this.words, word, from, to) !== from) return false;
    Atomics.notify(this.words, word);
    return true;
  }
}

const NAME_LENGTH = DIGEST_LENGTH + MAX_PATH_LENGTH;
const SIZES_AT = 4 * (WORD.STATES + SLOTS);
const NAMES_AT = SIZES_AT + 8 * SLOTS;
const LENGTH = NAMES_AT + SLOTS * NAME_LENGTH;
