import { createHash } from 'node:crypto';
import type { Worker } from 'node:worker_threads';
import { awaitChange, canStartThreads, startThread } from '../../util/async/thread.ts';
import { StoreError } from '../../util/errors.ts';
import type { Sha256ThreadData } from './sha256-protocol.ts';
import { FINISHED, HASHED, WRITTEN } from './sha256-protocol.ts';
import type { NarSink } from './writer.ts';

/** Shared memory between the thread that writes and the one that hashes. */
const RING_LENGTH = 8 << 20;
/** A thread is not started for less than this. */
const PARALLEL_FROM = 4 << 20;
/** Nor is the ring made for less, which takes longer than to hash it. */
const RING_FROM = 64 << 10;
/** Who waits for the thread looks so often whether there still is one, in milliseconds. */
const LOOK_MS = 1000;

/**
 * SHA-256 in a thread of its own, beside whatever else is done with the bytes. They go through a ring of
 * fixed size; a writer that is ahead of the hashing by all of it waits. Little is hashed where it is.
 */
export class ParallelSha256 implements NarSink {
  readonly #control = new Int32Array(new SharedArrayBuffer(12));
  /** Everything, as long as there is no ring. */
  #parts: Buffer[] = [];
  #ring: Buffer | undefined;
  /** Hashes where it is, if no thread can be started. */
  readonly #alone = canStartThreads() ? undefined : createHash('sha256');
  readonly #background: boolean;
  #written = 0;
  #hasEnded = false;
  #worker: { digest: Promise<Uint8Array>; thread: Worker } | undefined;

  /** `background`: everything else in this process goes first. */
  constructor({ background = false } = {}) {
    this.#background = background;
  }

  update(bytes: Uint8Array): void {
    if (this.#alone) {
      this.#alone.update(bytes);
      return;
    }
    if (!this.#ring && this.#written + bytes.length < RING_FROM) {
      this.#parts.push(Buffer.from(bytes));
      this.#written += bytes.length;
      return;
    }
    const ring = this.#ring ?? this.#makeRing();
    for (let from = 0; from < bytes.length; ) {
      const count = Math.min(bytes.length - from, this.#room());
      ring.set(bytes.subarray(from, from + count), this.#written % RING_LENGTH);
      from += count;
      this.#written += count;
      Atomics.store(this.#control, WRITTEN, this.#written | 0);
      Atomics.notify(this.#control, WRITTEN);
      if (!this.#worker && this.#written >= PARALLEL_FROM) this.#worker = this.#start(ring);
    }
  }

  #makeRing(): Buffer {
    const ring = Buffer.from(new SharedArrayBuffer(RING_LENGTH) as unknown as ArrayBuffer);
    ring.set(Buffer.concat(this.#parts));
    this.#parts = [];
    this.#ring = ring;
    return ring;
  }

  /** Resolves when `update` would take so many bytes, of no more than 8 MiB, without waiting. */
  async room(bytes: number): Promise<void> {
    if (!this.#worker) return;
    const needed = Math.min(bytes, RING_LENGTH);
    for (;;) {
      const hashed = Atomics.load(this.#control, HASHED);
      if (RING_LENGTH - ((this.#written - hashed) | 0) >= needed) return;
      if (this.#hasEnded) throw ended();
      await Atomics.waitAsync(this.#control, HASHED, hashed, LOOK_MS).value;
    }
  }

  /** Bytes that may be written in one piece; waits until there are some. */
  #room(): number {
    for (;;) {
      const hashed = Atomics.load(this.#control, HASHED);
      const free = RING_LENGTH - ((this.#written - hashed) | 0);
      const toEnd = RING_LENGTH - (this.#written % RING_LENGTH);
      if (free > 0) return Math.min(free, toEnd);
      awaitChange(this.#control, HASHED, hashed);
    }
  }

  async digest(): Promise<Uint8Array> {
    if (this.#alone) return this.#alone.digest();
    if (!this.#worker) {
      const all = this.#ring?.subarray(0, this.#written) ?? Buffer.concat(this.#parts);
      return createHash('sha256').update(all).digest();
    }
    Atomics.store(this.#control, FINISHED, 1);
    Atomics.notify(this.#control, WRITTEN);
    return this.#worker.digest;
  }

  #start(ring: Buffer) {
    const data: Sha256ThreadData = { control: this.#control, ring, background: this.#background };
    const thread = startThread(import.meta.url, './sha256-thread.js', data);
    const digest = new Promise<Uint8Array>((resolve, reject) => {
      thread.once('message', resolve);
      thread.once('error', reject);
      thread.once('exit', () => {
        this.#hasEnded = true;
        reject(ended());
      });
    });
    digest.catch(() => {});
    return { digest, thread };
  }

  /** Ends the thread. */
  close(): void {
    void this.#worker?.thread.terminate();
  }
}

function ended(): StoreError {
  return new StoreError('INTERNAL', 'the thread that hashes has ended');
}
