import { LRUCache } from 'lru-cache';
import type { StoreNeed } from '../fs/need.ts';
import { toHex } from '../util/bytes.ts';

/** After a read has failed, its reader asks for a page of it within this, in milliseconds. */
const REMEMBERED_MS = 1000;
/** A failure that came sooner is not remembered: to try again costs little, in milliseconds. */
const LONG_MS = 500;
const MAX_REMEMBERED = 10_000;
const PAGE = 4096;

interface FailedRead {
  readonly offset: number;
  readonly end: number;
  readonly tookMs: number;
  /** Pages that were asked for once more, by offset. */
  readonly repeated: Set<number>;
}

/**
 * Reads that have just failed. The kernel asks for what it could not get once more, by itself and page by page, before
 * it gives its reader an error. A page that had to wait for the timeout would have to do so twice: so that one time it
 * fails at once.
 */
export class FailedReads {
  /** By blob, in hexadecimal. */
  readonly #reads = new LRUCache<string, FailedRead>({ max: MAX_REMEMBERED, ttl: REMEMBERED_MS });

  /** Takes note that a need that `isSecond` did not find has failed after so many milliseconds. */
  note(need: StoreNeed, tookMs: number): void {
    if (need.kind !== 'blob') return;
    const { digest, offset, length } = need;
    this.#reads.set(toHex(digest), { offset, end: offset + length, tookMs, repeated: new Set() });
  }

  /**
   * Whether a need that is being asked for is the kernel's own second try of a read that has failed; and then, whether
   * that should fail at once.
   */
  isSecond(need: StoreNeed): 'no' | 'yes' | 'yes, and in vain' {
    if (need.kind !== 'blob' || need.length > PAGE) return 'no';
    const read = this.#reads.get(toHex(need.digest));
    if (!read || need.offset < read.offset || need.offset >= read.end || read.repeated.has(need.offset))
      return 'no';
    read.repeated.add(need.offset);
    return read.tookMs < LONG_MS ? 'yes' : 'yes, and in vain';
  }
}
