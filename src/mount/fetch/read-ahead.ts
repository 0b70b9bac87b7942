import { LRUCache } from 'lru-cache';
import type { Chunk } from '../../castore/blob/service.ts';

/** Bytes read ahead of a reader at the most, and to begin with. */
const MAX_WINDOW = 8 << 20;
const FIRST_WINDOW = 1 << 20;
/** Read-ahead calls under way at once, over all readers. */
const AT_ONCE = 6;
/** Readers that are followed. */
const MAX_READERS = 256;

export interface ReadAheadOptions {
  /** Whether there is room for more. */
  readonly mayGoOn: () => boolean;
  readonly isLocal: (chunk: Chunk) => boolean;
  readonly get: (chunk: Chunk) => Promise<void>;
}

/** Fetches along the reading: the window before a reader doubles while it reads on in order. */
export class ReadAhead {
  readonly #options: ReadAheadOptions;
  /** By blob: where the next request lies if it is read in order, and how far to read ahead. */
  readonly #readers = new LRUCache<string, { next: number; window: number }>({ max: MAX_READERS });
  readonly #queue: Chunk[] = [];
  #running = 0;

  constructor(options: ReadAheadOptions) {
    this.#options = options;
  }

  /** Notes a read of a blob, of the chunks from `first` up to `end`. */
  note(
    key: string,
    chunks: readonly Chunk[],
    offset: number,
    { first, end }: { first: number; end: number },
  ): void {
    const reader = this.#readers.get(key);
    // In order: it begins among the chunks that the last read led to expect. From the start counts too.
    const inOrder =
      first === 0 || (reader !== undefined && first >= reader.next - 1 && first <= reader.next + EXPECTED);
    if (!inOrder) {
      this.#readers.delete(key);
      return;
    }
    const window = reader ? Math.min(reader.window * 2, MAX_WINDOW) : offset === 0 ? FIRST_WINDOW : 0;
    this.#readers.set(key, { next: end, window: Math.max(window, FIRST_WINDOW) });
    let bytes = 0;
    for (let i = end; i < chunks.length && bytes < window; i++) {
      const chunk = chunks[i]!;
      bytes += chunk.size;
      if (bytes > window) break;
      if (!this.#options.isLocal(chunk) && !this.#queue.includes(chunk)) this.#queue.push(chunk);
    }
    this.#pump();
  }

  #pump(): void {
    while (this.#running < AT_ONCE && this.#queue.length > 0 && this.#options.mayGoOn()) {
      const chunk = this.#queue.shift()!;
      this.#running++;
      this.#options
        .get(chunk)
        // Whoever needs it will ask again, and hear why it cannot be had.
        .catch(() => {})
        .finally(() => {
          this.#running--;
          this.#pump();
        });
    }
  }
}

/** A reader whose next chunks came by read-ahead asks again only behind them. */
const EXPECTED = MAX_WINDOW / (128 * 1024);
