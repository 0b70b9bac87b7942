import { LRUCache } from 'lru-cache';
import type { Chunk } from '../../castore/blob/service.ts';
import type { AheadQueue } from './ahead-queue.ts';
import type { ChunkList, ChunkRange } from './chunk-list.ts';

/** Bytes read ahead of a reader at the most, and to begin with. */
const MAX_WINDOW = 8 << 20;
const FIRST_WINDOW = 512 << 10;
/** Readers that are followed. */
const MAX_READERS = 256;

interface Reader {
  /** Index of the first chunk that has not been read or read ahead. */
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

  /** Whether a read goes on where another ended: at the start of the blob, or no further than the window reached. */
  isInOrder(key: string, { first, end }: ChunkRange): boolean {
    const reader = this.#readers.get(key);
    return reader ? first <= reader.next && end + 1 >= reader.next - WINDOW_CHUNKS : first === 0;
  }

  /** Notes a read of a blob that lacked chunks from `first` up to `end`; `get` fetches one. */
  note(key: string, list: ChunkList, wanted: ChunkRange, get: (chunk: Chunk) => Promise<void>): void {
    const { end } = wanted;
    const reader = this.#readers.get(key);
    if (!this.isInOrder(key, wanted)) {
      // Two reads one behind the other are the beginning of an order.
      this.#readers.set(key, { next: end, window: 0 });
      return;
    }
    const window = reader?.window ? Math.min(reader.window * 2, MAX_WINDOW) : FIRST_WINDOW;
    let next = end;
    for (let bytes = 0; next < list.chunks.length; next++) {
      const chunk = list.chunks[next]!;
      bytes += chunk.size;
      if (bytes > window) break;
      if (next >= (reader?.next ?? 0) && list.isMissing(chunk)) this.#queue.add(() => get(chunk));
    }
    this.#readers.set(key, { next: Math.max(next, reader?.next ?? 0), window });
  }
}

/** Chunks that a window may hold. */
const WINDOW_CHUNKS = MAX_WINDOW / (128 * 1024);
