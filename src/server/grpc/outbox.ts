import { addAbortListener } from 'node:events';
import type { Writable } from 'node:stream';
import type { Encoded } from '../../proto/grpc/codec.ts';
import { StoreError } from '../../util/errors.ts';
import type { CallLimit } from './call-limit.ts';

/** A client that takes nothing is given up after this long, in milliseconds. */
const IDLE_MS = 60_000;

/** Bytes of answers that wait for a client to take them: of one call, and of all before each may keep but one message. */
const MAX_UNTAKEN = 1 << 20;
const MAX_UNTAKEN_OF_ALL = 128 << 20;

/**
 * Hands messages to grpc-js only as fast as the client takes them. Its own measure is the number of messages,
 * of which sixteen may be 8 MiB.
 */
export class Outbox {
  readonly #call: Writable;
  readonly #limit: CallLimit;
  readonly #signal: AbortSignal;
  #untaken = 0;
  #closed = false;
  #taken: (() => void) | undefined;

  constructor(call: Writable, limit: CallLimit, signal: AbortSignal) {
    this.#call = call;
    this.#limit = limit;
    this.#signal = signal;
  }

  /** Resolves when the next message may come. */
  async send(message: Encoded): Promise<void> {
    const { byteLength } = message;
    this.#count(byteLength);
    this.#call.write(message, () => {
      this.#count(-byteLength);
      this.#taken?.();
    });
    const full = () =>
      this.#untaken > MAX_UNTAKEN || (this.#untaken > 0 && this.#limit.untaken > MAX_UNTAKEN_OF_ALL);
    while (full() && !this.#signal.aborted) await this.#progress();
  }

  /** Resolves when the client has taken all of it. */
  async empty(): Promise<void> {
    while (this.#untaken > 0 && !this.#signal.aborted) await this.#progress();
  }

  close(): void {
    this.#count(-this.#untaken);
    this.#closed = true;
  }

  #count(bytes: number): void {
    if (this.#closed) return;
    this.#untaken += bytes;
    this.#limit.untaken += bytes;
  }

  #progress(): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer);
        this.#taken = undefined;
        left[Symbol.dispose]();
        resolve();
      };
      const timer = setTimeout(() => {
        left[Symbol.dispose]();
        reject(new StoreError('DEADLINE_EXCEEDED', `nothing was taken for ${IDLE_MS / 1000} s`));
      }, IDLE_MS);
      this.#taken = settle;
      const left = addAbortListener(this.#signal, settle);
    });
  }
}
