import type { ServerHttp2Stream } from 'node:http2';
import type { Holding } from '../shares/holding.ts';

/** What is handed to the system at once, in bytes: little for a client that takes long to read it, to see it move. */
const LEAST = 4 << 10;
const FIRST = 16 << 10;
const MOST = 256 << 10;
/** In milliseconds. */
const SOON_MS = 1000;
const LATE_MS = 5000;
/** Pieces that are on their way at once. */
const AT_ONCE = 2;

/** Hands the answers of a call on as fast as its client takes them. What has been taken is not held any more. */
export class Outbox {
  readonly #stream: ServerHttp2Stream;
  readonly #holding: Holding;
  readonly #signal: AbortSignal;
  #length = FIRST;
  #untaken = 0;
  #wake: (() => void) | undefined;

  constructor(stream: ServerHttp2Stream, holding: Holding, signal: AbortSignal) {
    this.#stream = stream;
    this.#holding = holding;
    this.#signal = signal;
    signal.addEventListener('abort', () => this.#wake?.());
  }

  /** Sends parts of a message, which must not change until they have been taken. Resolves when more may come. */
  async send(parts: readonly Uint8Array[], isHeld = true): Promise<void> {
    for (const part of parts) {
      for (let at = 0; at < part.length; ) {
        while (this.#untaken >= AT_ONCE) await this.#taken();
        this.#signal.throwIfAborted();
        const piece = part.subarray(at, at + this.#length);
        at += piece.length;
        this.#write(piece, isHeld);
      }
    }
    while (this.#untaken >= AT_ONCE) await this.#taken();
    this.#signal.throwIfAborted();
  }

  #write(piece: Uint8Array, isHeld: boolean): void {
    const begun = performance.now();
    this.#untaken++;
    this.#stream.write(piece, () => {
      this.#untaken--;
      this.#holding.moved(piece.length);
      if (isHeld) this.#holding.give(piece.length);
      const took = performance.now() - begun;
      if (took < SOON_MS && piece.length === this.#length) this.#length = Math.min(MOST, this.#length * 2);
      else if (took > LATE_MS) this.#length = Math.max(LEAST, this.#length / 2);
      this.#wake?.();
    });
  }

  /** Resolves when the client has taken all of it. */
  async empty(): Promise<void> {
    while (this.#untaken > 0 && !this.#signal.aborted) await this.#taken();
  }

  async #taken(): Promise<void> {
    this.#signal.throwIfAborted();
    this.#holding.await('read');
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = undefined;
    // The clock goes on for what is left of a call that has failed.
    if (!this.#signal.aborted) this.#holding.await(undefined);
  }
}
