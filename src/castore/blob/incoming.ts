import { orAborted } from '../../util/async/abort.ts';
import type { Piece } from './far-blobs.ts';
import type { BlobFill } from './fill.ts';
import type { Chunk } from './service.ts';

type Cut = (signal: AbortSignal) => AsyncIterable<Piece>;

/**
 * A blob of unknown chunks on its way into a near service, in pieces that were cut here. Any number of readers follow, each
 * at its own pace, by reading the chunks from there. Nothing waits in memory for a slow one.
 */
export class Incoming {
  readonly chunks: Chunk[] = [];
  readonly #abort = new AbortController();
  #readers = 0;
  #state: 'running' | 'whole' | 'refused' | 'failed' = 'running';
  #error: unknown;
  #news: PromiseWithResolvers<void> = Promise.withResolvers<void>();

  /** Begins to take the pieces that `cut` gives; when they end well, they are the blob. */
  constructor(cut: Cut, fill: BlobFill) {
    void this.#run(cut, fill);
  }

  async #run(cut: Cut, fill: BlobFill): Promise<void> {
    try {
      this.#state = (await this.#take(cut(this.#abort.signal), fill)) ? 'whole' : 'refused';
    } catch (error) {
      this.#error = error;
      this.#state = 'failed';
    }
    this.#tell();
  }

  /** False when the near service does not take it. */
  async #take(pieces: AsyncIterable<Piece>, fill: BlobFill): Promise<boolean> {
    for await (const { digest, size, bytes } of pieces) {
      if (!(await fill.add(digest, Uint8Array.from(bytes)))) return false;
      this.chunks.push({ digest, size });
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
