import { orAborted } from '../../util/async/abort.ts';
import { Digest } from '../digest.ts';
import { chunked } from './chunker.ts';
import type { BlobFill } from './fill.ts';
import type { Chunk } from './service.ts';

type Open = (signal: AbortSignal) => Promise<AsyncIterable<Uint8Array>>;

/**
 * A blob of unknown chunks on its way into a near service: it is cut here, and any number of readers follow, each
 * at its own pace, by reading the chunks from there. Nothing waits in memory for a slow one.
 */
export class Incoming {
  readonly chunks: Chunk[] = [];
  readonly #abort = new AbortController();
  #readers = 0;
  #state: 'running' | 'whole' | 'refused' | 'failed' = 'running';
  #error: unknown;
  #news: PromiseWithResolvers<void> = Promise.withResolvers<void>();

  /** Begins to read what `open` gives, which is checked at its end. */
  constructor(open: Open, fill: BlobFill) {
    void this.#run(open, fill);
  }

  async #run(open: Open, fill: BlobFill): Promise<void> {
    const { signal } = this.#abort;
    try {
      this.#state = (await this.#take(await open(signal), fill, signal)) ? 'whole' : 'refused';
    } catch (error) {
      this.#error = error;
      this.#state = 'failed';
    }
    this.#tell();
  }

  /** False when the near service does not take it. */
  async #take(parts: AsyncIterable<Uint8Array>, fill: BlobFill, signal: AbortSignal): Promise<boolean> {
    for await (const part of chunked(parts)) {
      signal.throwIfAborted();
      const bytes = Uint8Array.from(part);
      const digest = Digest.hash(bytes);
      if (!(await fill.add(digest, bytes))) return false;
      this.chunks.push({ digest, size: bytes.length });
      this.#tell();
    }
    return true;
  }

  #tell(): void {
    this.#news.resolve();
    this.#news = Promise.withResolvers<void>();
  }

  /** Whether another reader may join. */
  get joinable(): boolean {
    return this.#state === 'running' && !this.#abort.signal.aborted;
  }

  /** Whether all of it has arrived and was right. */
  get whole(): boolean {
    return this.#state === 'whole';
  }

  /** The chunks as they come; fewer when the near service does not take them. Throws what reading failed with. */
  async *follow(signal?: AbortSignal): AsyncGenerator<Chunk> {
    this.#readers++;
    try {
      for (let i = 0; ; i++) {
        signal?.throwIfAborted();
        while (i === this.chunks.length && this.#state === 'running') {
          const news = this.#news.promise;
          await orAborted(news, signal);
        }
        if (i < this.chunks.length) yield this.chunks[i]!;
        else if (this.#state === 'failed') throw this.#error;
        else return;
      }
    } finally {
      if (--this.#readers === 0) this.#abort.abort();
    }
  }
}
