import { asBuffer } from '../util/bytes.ts';
import { BUCKETS, DIGEST, ENTRY, NEXT, PARENT, RECORD, STATE_WORDS, WORDS } from './node-record.ts';

/** Finds the records of a node table. A record's bucket follows from what identifies it. */
export class NodeIndex {
  readonly #words: Int32Array;
  readonly #bytes: Buffer;
  readonly #base: number;

  constructor(words: Int32Array, bytes: Buffer, base: number) {
    this.#words = words;
    this.#bytes = bytes;
    this.#base = base;
  }

  #at(id: number): number {
    return this.#base + id * WORDS;
  }

  #hash(id: number): number {
    const at = this.#at(id);
    return (this.#words[at]! & 0xff) === RECORD.storePath
      ? mix(this.#words[at + DIGEST]!)
      : placeHash(this.#words[at + PARENT]!, this.#words[at + ENTRY]!);
  }

  #bucket(hash: number): number {
    const buckets = this.#words[BUCKETS]!;
    const mask = (1 << (31 - Math.clz32(buckets))) - 1;
    // Buckets below the split point have been divided by one more bit already.
    const wide = hash & (mask * 2 + 1);
    return STATE_WORDS + (wide < buckets ? wide : hash & mask);
  }

  link(id: number): void {
    const bucket = this.#bucket(this.#hash(id));
    this.#words[this.#at(id) + NEXT] = this.#words[bucket]!;
    this.#words[bucket] = id;
  }

  unlink(id: number): void {
    const words = this.#words;
    let slot = this.#bucket(this.#hash(id));
    while (words[slot] !== id) {
      if (words[slot] === 0) return;
      slot = this.#at(words[slot]!) + NEXT;
    }
    words[slot] = words[this.#at(id) + NEXT]!;
  }

  /** Adds one bucket and moves to it what belongs there from the bucket it divides. */
  grow(): void {
    const words = this.#words;
    const added = words[BUCKETS]!;
    const divided = STATE_WORDS + (added - (1 << (31 - Math.clz32(added))));
    words[BUCKETS] = added + 1;
    let id = words[divided]!;
    words[divided] = 0;
    while (id !== 0) {
      const next = words[this.#at(id) + NEXT]!;
      this.link(id);
      id = next;
    }
  }

  findPlace(parent: number, entry: number): number {
    const words = this.#words;
    let id = words[this.#bucket(placeHash(parent, entry))]!;
    for (; id !== 0; id = words[this.#at(id) + NEXT]!) {
      const at = this.#at(id);
      if ((words[at]! & 0xff) === RECORD.storePath) continue;
      if (words[at + PARENT] === parent && words[at + ENTRY] === entry) return id;
    }
    return 0;
  }

  findStorePath(hash: Uint8Array): number {
    const words = this.#words;
    const source = asBuffer(hash);
    let id = words[this.#bucket(mix(source.readInt32LE(0)))]!;
    for (; id !== 0; id = words[this.#at(id) + NEXT]!) {
      const at = this.#at(id);
      if ((words[at]! & 0xff) !== RECORD.storePath) continue;
      const start = (at + DIGEST) * 4;
      if (source.compare(this.#bytes, start, start + source.length) === 0) return id;
    }
    return 0;
  }
}

function placeHash(parent: number, entry: number): number {
  return mix(Math.imul(parent, 0x9e3779b1) ^ Math.imul(entry, 0x85ebca77));
}

function mix(value: number): number {
  let hash = value;
  hash = Math.imul(hash ^ (hash >>> 16), 0x7feb352d);
  hash = Math.imul(hash ^ (hash >>> 15), 0x846ca68b);
  return (hash ^ (hash >>> 16)) >>> 0;
}
