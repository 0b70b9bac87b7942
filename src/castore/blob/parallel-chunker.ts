import type { Worker } from 'node:worker_threads';
import { awaitChange, canStartThreads, startThread } from '../../util/async/thread.ts';
import { DIGEST_LENGTH, Digest } from '../digest.ts';
import { HashingChunker } from './chunker.ts';
import type { CutThreadData } from './cut-protocol.ts';
import { CONTROL, CUTS, RING_LENGTH } from './cut-protocol.ts';
import { DEFAULT_CUTTER } from './cutter-options.ts';

/** Contents from this length on are cut in a thread of its own. */
const PARALLEL_FROM = 16 << 20;

/** Chooses a chunker for contents of about so many bytes, whose digest may be `known`. */
export function chunkerFor(expected: number, known?: Digest): HashingChunker | ParallelChunker {
  const isParallel = expected >= PARALLEL_FROM && !known && canStartThreads();
  return isParallel ? new ParallelChunker() : new HashingChunker(known);
}

/**
 * Cuts a long stream into chunks, as `chunked` does, and hashes the whole; but does both in a thread of its own
 * while the caller hashes and writes the chunks before.
 */
export class ParallelChunker {
  readonly #ring = new Ring();

  /** Each chunk is valid until the next is asked for. */
  async *chunks(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const ring = this.#ring;
    for await (const part of source) {
      for (let taken = 0; taken < part.length; ) {
        taken += ring.write(part, taken);
        // Chunks are only waited for when the ring is full.
        while (ring.hasCut() || ring.isFull()) yield ring.take();
      }
    }
    ring.finish();
    while (ring.pending() > 0) yield ring.take();
  }

  /** The digest of all that was cut; after the last chunk. */
  digest(): Digest {
    return this.#ring.digest();
  }

  /** Ends the thread. */
  close(): void {
    this.#ring.close();
  }
}

class Ring {
  readonly #control = new Int32Array(new SharedArrayBuffer(4 * CONTROL.LENGTH));
  readonly #cuts = new Int32Array(new SharedArrayBuffer(4 * CUTS));
  readonly #bytes = Buffer.from(new SharedArrayBuffer(RING_LENGTH) as unknown as ArrayBuffer);
  readonly #digest = new Uint8Array(new SharedArrayBuffer(DIGEST_LENGTH));
  readonly #unrolled = Buffer.allocUnsafeSlow(DEFAULT_CUTTER.max);
  readonly #thread: Worker;
  #written = 0;
  /** Where the next chunk to be taken starts, and how many have been. */
  #start = 0;
  #taken = 0;
  /** End of the chunk that was taken last: until the next is, its place is not free. */
  #freed = 0;

  constructor() {
    const [control, ring, cuts, digest] = [this.#control, this.#bytes, this.#cuts, this.#digest];
    const data: CutThreadData = { control, ring, cuts, digest };
    this.#thread = startThread(import.meta.url, './cut-thread.js', data);
  }

  /** Bytes that have not been taken. */
  pending(): number {
    return this.#written - this.#start;
  }

  isFull(): boolean {
    return this.#written - this.#freed >= RING_LENGTH;
  }

  hasCut(): boolean {
    return Atomics.load(this.#control, CONTROL.CUT) !== (this.#taken | 0);
  }

  /** Copies what fits; gives how much that was. */
  write(part: Uint8Array, from: number): number {
    const at = this.#written % RING_LENGTH;
    const room = RING_LENGTH - (this.#written - this.#freed);
    const count = Math.min(part.length - from, room, RING_LENGTH - at);
    this.#bytes.set(part.subarray(from, from + count), at);
    this.#written += count;
    Atomics.store(this.#control, CONTROL.WRITTEN, this.#written | 0);
    Atomics.notify(this.#control, CONTROL.WRITTEN);
    return count;
  }

  finish(): void {
    Atomics.store(this.#control, CONTROL.FINISHED, 1);
    Atomics.notify(this.#control, CONTROL.WRITTEN);
  }

  /** The next chunk; waits until it has been cut. The one before it is given back. */
  take(): Uint8Array {
    while (!this.hasCut()) awaitChange(this.#control, CONTROL.CUT, this.#taken | 0);
    this.#freed = this.#start;
    const length = (this.#cuts[this.#taken % CUTS]! - this.#start) | 0;
    const at = this.#start % RING_LENGTH;
    this.#taken++;
    this.#start += length;
    if (at + length <= RING_LENGTH) return this.#bytes.subarray(at, at + length);
    const first = RING_LENGTH - at;
    this.#bytes.copy(this.#unrolled, 0, at);
    this.#bytes.copy(this.#unrolled, first, 0, length - first);
    return this.#unrolled.subarray(0, length);
  }

  digest(): Digest {
    awaitChange(this.#control, CONTROL.HASHED, 0);
    return Digest.of(Uint8Array.from(this.#digest));
  }

  close(): void {
    void this.#thread.terminate();
  }
}
