import { LRUCache } from 'lru-cache';
import type { Chunk } from '../../castore/blob/service.ts';
import type { AheadQueue } from './ahead-queue.ts';
import type { ChunkList, ChunkRange } from './chunk-list.ts';

/** Most bytes read ahead of a reader, and how many at first. */
const MAX_WINDOW = 8 << 20;
const FIRST_WINDOW = 512 << 10;
/** Readers that are followed. */
const MAX_READERS = 256;

interface Reader {
  /** Index of the first chunk that has not been asked for. */
  reached: number;
  /** Index of the first chunk that has not been read ahead. */
  next: number;
  window: number;
}

/** Fetches along the reading: the window before a reader doubles while it reads on in order. */
export class ReadAhead {
  readonly #queue: AheadQueue;
  readonly #readers = new LRUCache<string, Reader>({ max: MAX_READERS });

  constructor(queue: AheadQueue) {
    this.#queue = queue;
  }

  /**
   * Takes note of a read when it comes: the kernel sends several before it has had an answer. Gives whether it
   * goes on where another ended: at the start of the blob, or no further than the window reached.
   */
  arrives(key: string, { first, end }: ChunkRange): boolean {
    const reader = this.#readers.get(key) ?? { reached: 0, next: 0, window: 0 };
    const reach = Math.max(reader.reached, reader.next);
    const isInOrder = first <= reach && end + 1 >= reach - WINDOW_CHUNKS;
    // Two reads one behind the other are the beginning of an order.
    if (!isInOrder) this.#readers.set(key, { reached: end, next: end, window: 0 });
    else this.#readers.set(key, { ...reader, reached: Math.max(end, reader.reached) });
    return isInOrder;
  }

  /** Reads ahead of a read in order, up to chunk `end`, which has been answered; `get` fetches a chunk. */
  follow(key: string, list: ChunkList, { end }: ChunkRange, get: (chunk: Chunk) => Promise<void>): void {
    const reader = this.#readers.get(key);
    if (!reader) return;
    const window = reader.window > 0 ? Math.min(reader.window * 2, MAX_WINDOW) : FIRST_WINDOW;
    let next = end;
    for (let bytes = 0; next < list.chunks.length; next++) {
      const chunk = list.chunks[next]!;
      bytes += chunk.size;
      if (bytes > window) break;
      if (next >= reader.next && list.isMissing(chunk)) this.#queue.add(chunk.size, () => get(chunk));
    }
    this.#readers.set(key, { ...reader, next: Math.max(next, reader.next), window });
  }
}

/** Chunks that a window may hold. */
const WINDOW_CHUNKS = MAX_WINDOW / (128 * 1024);
