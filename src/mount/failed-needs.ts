import { LRUCache } from 'lru-cache';
import type { StoreNeed } from '../fs/need.ts';
import { toHex } from '../util/bytes.ts';

/** After a read has failed, its reader asks for a page of it within this, in milliseconds. */
const REMEMBERED_MS = 1000;
/** Pages of a read that has failed are waited for until so long after that, in milliseconds. */
const GRACE_MS = 1000;
/** Who has waited for one behind another waits at least so long, in milliseconds: what has come back needs some time. */
const LEAST_MS = 500;
/**
 * Those who have waited behind the one for whom a name failed, or the second for whom a page did, ask within this, in
 * milliseconds, one after the other: all of them within the second time. Whoever comes later may have better luck.
 */
const NEXT_MS = 60;
const ALL_MS = 300;
/** A failure that came sooner is not remembered: to try again costs little, in milliseconds. */
const LONG_MS = 500;
const MAX_REMEMBERED = 10_000;
/** Of one blob: more than the kernel asks for at once. */
const MAX_READS = 256;
const PAGE = 4096;

interface FailedRead {
  readonly offset: number;
  readonly end: number;
  readonly failedAt: number;
  /** Until when pages of it may be asked for by who has waited in vain. */
  until: number;
}

type BlobNeed = StoreNeed & { kind: 'blob' };

/**
 * What was waited for in vain of late. The kernel asks for what it could not get once more: for a read, page by page,
 * before it gives its reader an error; and where several want the same name or page, for each of them when the one
 * before has failed. Each would wait for the whole timeout, one after the other.
 *
 * Who comes when the store is back may look the same: for a page, which such a reader finds failed, they wait for a moment.
 */
export class FailedNeeds {
  /** By key, when it failed and when it was asked for last. */
  readonly #needs = new LRUCache<string, { readonly failedAt: number; askedAt: number }>({
    max: MAX_REMEMBERED,
    ttl: ALL_MS,
  });
  /** By blob, in hexadecimal: a reader, and what is read ahead of it, fail at the same time. */
  readonly #reads = new LRUCache<string, readonly FailedRead[]>({ max: MAX_REMEMBERED });

  /** Takes note that a need has failed after so many milliseconds. */
  note(need: StoreNeed, tookMs: number): void {
    const now = performance.now();
    const again = need.kind === 'blob' && this.#failedRead(need);
    if (need.kind === 'blob' && !again) {
      if (tookMs < LONG_MS) return;
      const { digest, offset, length } = need;
      const read = { offset, end: offset + length, failedAt: now, until: now + REMEMBERED_MS };
      this.#reads.set(toHex(digest), [...this.#recent(digest).slice(1 - MAX_READS), read]);
    } else if (again ? now > again.failedAt + GRACE_MS + LEAST_MS : tookMs >= LONG_MS) {
      this.#needs.set(need.key, { failedAt: now, askedAt: now });
    }
  }

  /**
   * For how long, in milliseconds, a need is to be waited for that is asked for once more, perhaps by who has waited for it
   * in vain already; `undefined` for one that is not.
   */
  patience(need: StoreNeed): number | undefined {
    if (this.#isNext(need.key)) return 0;
    const read = need.kind === 'blob' ? this.#failedRead(need) : undefined;
    if (!read) return undefined;
    // Not longer than that: whoever tries again and again is to have more time at last.
    read.until = read.failedAt + GRACE_MS + REMEMBERED_MS;
    return Math.max(read.failedAt + GRACE_MS - performance.now(), LEAST_MS);
  }

  /** The read of which a page is asked for. */
  #failedRead({ digest, offset, length }: BlobNeed): FailedRead | undefined {
    if (length > PAGE) return undefined;
    return this.#recent(digest).findLast((read) => offset >= read.offset && offset < read.end);
  }

  #recent(blob: Uint8Array): readonly FailedRead[] {
    const now = performance.now();
    return (this.#reads.get(toHex(blob)) ?? []).filter(({ until }) => now <= until);
  }

  #isNext(key: string): boolean {
    const now = performance.now();
    const failed = this.#needs.get(key);
    if (!failed || now - failed.askedAt > NEXT_MS || now - failed.failedAt > ALL_MS) return false;
    failed.askedAt = now;
    return true;
  }
}
