import { asBuffer } from '../../util/bytes.ts';

const ENTRIES = 1 << 18;
const WORDS = 2;

/**
 * Digests of what has been hashed and was right. Each takes the place that the first of its bytes give it, and another one
 * there is forgotten, to be hashed again; by eight of its bytes it is told from others.
 */
export class SoundChunks {
  readonly #words = new Int32Array(ENTRIES * WORDS);

  has(digest: Uint8Array): boolean {
    const bytes = asBuffer(digest);
    const at = place(bytes);
    return this.#words[at] === bytes.readInt32LE(4) && this.#words[at + 1] === bytes.readInt32LE(8);
  }

  add(digest: Uint8Array): void {
    const bytes = asBuffer(digest);
    const at = place(bytes);
    this.#words[at] = bytes.readInt32LE(4);
    this.#words[at + 1] = bytes.readInt32LE(8);
  }
}

function place(digest: Buffer): number {
  return (digest.readUInt32LE(0) & (ENTRIES - 1)) * WORDS;
}
