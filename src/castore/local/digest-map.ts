import { DIGEST_LENGTH } from '../digest.ts';

const FIRST_CAPACITY = 1 << 12;
const WORDS = 3;

/**
 * A number for each of many digests, in 24 to 48 bytes each. It goes by the first 8 bytes of a digest: two that
 * have them in common are taken for one, which only means that a collector keeps a little too much.
 */
export class DigestMap {
  #slots = new Uint32Array(FIRST_CAPACITY * WORDS);
  size = 0;

  /** 0 for a digest that is not there. */
  get(digest: Uint8Array): number {
    return this.#slots[this.#find(first(digest), second(digest)) + 2]!;
  }

  has(digest: Uint8Array): boolean {
    return this.get(digest) !== 0;
  }

  /** Puts a number that is not 0; true when the digest was not there. */
  set(digest: Uint8Array, value = 1): boolean {
    const at = this.#find(first(digest), second(digest));
    const isNew = this.#slots[at + 2] === 0;
    this.#slots[at] = first(digest);
    this.#slots[at + 1] = second(digest);
    this.#slots[at + 2] = value;
    if (isNew && ++this.size * 2 * WORDS > this.#slots.length) this.#grow();
    return isNew;
  }

  #find(a: number, b: number): number {
    const slots = this.#slots;
    const capacity = slots.length / WORDS;
    let slot = a & (capacity - 1);
    for (;;) {
      const at = slot * WORDS;
      if (slots[at + 2] === 0 || (slots[at] === a && slots[at + 1] === b)) return at;
      slot = (slot + 1) & (capacity - 1);
    }
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Uint32Array(old.length * 2);
    for (let at = 0; at < old.length; at += WORDS) {
      if (old[at + 2] !== 0)
        this.#slots.set(old.subarray(at, at + WORDS), this.#find(old[at]!, old[at + 1]!));
    }
  }
}

function first(digest: Uint8Array): number {
  return (digest[0]! | (digest[1]! << 8) | (digest[2]! << 16) | (digest[3]! << 24)) >>> 0;
}

function second(digest: Uint8Array): number {
  if (digest.length !== DIGEST_LENGTH) throw new RangeError('not a digest');
  return (digest[4]! | (digest[5]! << 8) | (digest[6]! << 16) | (digest[7]! << 24)) >>> 0;
}
