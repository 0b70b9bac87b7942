/**
 * Bytes from one who pushes to one who pulls. Nothing is copied: the pusher waits for `drained` before the
 * memory of what was pushed is used again.
 */
export class Channel implements AsyncIterable<Uint8Array> {
  #parts: Uint8Array[] = [];
  #ended = false;
  #failure: { error: unknown } | undefined;
  /** Nobody pulls any more. */
  #left = false;
  #more: PromiseWithResolvers<void> | undefined;
  #empty: PromiseWithResolvers<void> | undefined;

  push(part: Uint8Array): void {
    if (this.#left) return;
    this.#parts.push(part);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  fail(error: unknown): void {
    this.#failure = { error };
    this.#wake();
  }

  /** Resolves when the last part has been used and another is asked for, or nobody wants any. */
  async drained(): Promise<void> {
    if (this.#left || (this.#parts.length === 0 && this.#more)) return;
    this.#empty ??= Promise.withResolvers<void>();
    await this.#empty.promise;
  }

  /** Nobody will pull any more. */
  leave(): void {
    this.#left = true;
    this.#parts = [];
    this.#empty?.resolve();
    this.#empty = undefined;
  }

  #wake(): void {
    this.#more?.resolve();
    this.#more = undefined;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const part = this.#parts.shift();
        if (part) {
          yield part;
          continue;
        }
        if (this.#failure) throw this.#failure.error;
        if (this.#ended) return;
        this.#more = Promise.withResolvers<void>();
        this.#empty?.resolve();
        this.#empty = undefined;
        await this.#more.promise;
      }
    } finally {
      this.leave();
    }
  }
}
