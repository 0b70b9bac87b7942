import { LRUCache } from 'lru-cache';
import type { StoreNeed } from '../fs/need.ts';
import { toHex } from '../util/bytes.ts';

/**
 * Those who have waited for one behind another ask within this, one after the other, in milliseconds; and later, by as much
 * as a timer was late, on a busy machine.
 */
const NEXT_MS = 20;
/** Whoever asks this soon may be one of them all the same, or have just come. Later, it is somebody else. */
const SOON_MS = 500;
/**
 * Whoever may have just come waits so long, in milliseconds: a store that is good is found again within it. With a shorter
 * timeout, for this part of that.
 */
const TRY_MS = 3000;
const TRY_PART = 1 / 2;
/** So many such tries may be made one after the other. */
const TRIES = 2;
/** For so long after a failure the others hear of it at once, in milliseconds. */
const HEARD_MS = 1000;
/** A failure that came sooner is not remembered: to try again costs little, in milliseconds. */
const LONG_MS = 500;
const MAX_REMEMBERED = 10_000;
/** Of one blob: more than the kernel asks for at once. */
const MAX_PARTS = 256;

/** What a need asks for: a part of a blob, or a whole thing. */
interface Part {
  readonly offset: number;
  readonly end: number;
}

interface Failure extends Part {
  failedAt: number;
  askedAt: number;
  /** Whoever asks so soon after the last, in milliseconds, is one of those who have waited. */
  nextMs: number;
  /** Tries that were made since, how long the latest may take, and when that is over. */
  tries: number;
  tryMs: number;
  tryEnds: number;
  /** Whoever asks later has not waited for it. */
  until: number;
}

/**
 * What was waited for in vain of late. The kernel asks for what it could not get once more: for a read, page by page,
 * before it gives its reader an error; and where several want the same name or page, for each of them when the one
 * before has failed. Each would wait for the whole timeout, one after the other: so they hear at once that it has failed.
 *
 * Whoever comes at that moment looks the same, unless it is a process that has begun since, and the store may be back: there
 * are some tries, for a shorter time; and for longer each time, where somebody does nothing but ask.
 */
export class FailedNeeds {
  readonly #tryMs: number;
  /** By what is asked for; several parts of a blob fail at the same time. */
  readonly #failures = new LRUCache<string, readonly Failure[]>({ max: MAX_REMEMBERED });

  /** `timeoutMs`: for how long others wait. */
  constructor(timeoutMs: number) {
    this.#tryMs = Math.min(TRY_MS, timeoutMs * TRY_PART);
  }

  /** Takes note that a need has failed after so many milliseconds. `lateMs`: by how much the timer was late that told so. */
  failed(need: StoreNeed, tookMs: number, lateMs = 0): void {
    const now = performance.now();
    const nextMs = NEXT_MS + Math.min(lateMs, SOON_MS);
    const times = { failedAt: now, askedAt: now, nextMs, until: now + nextMs + SOON_MS };
    const failure = this.#find(need);
    if (failure) Object.assign(failure, times);
    else if (tookMs >= LONG_MS) {
      const key = keyOf(need);
      const one = { ...partOf(need), ...times, tries: 0, tryMs: this.#tryMs, tryEnds: now };
      this.#failures.set(key, [...this.#recent(key).slice(1 - MAX_PARTS), one]);
    }
  }

  /** Takes note that something has come for a need. */
  met(need: StoreNeed): void {
    this.#failures.delete(keyOf(need));
  }

  /**
   * For how long, in milliseconds, a need is to be waited for that is perhaps asked for by who has waited for it in vain
   * already; `undefined` for one that is not. `isNew`: whether whoever asks has begun within so many milliseconds.
   */
  patience(need: StoreNeed, isNew: (sinceMs: number) => boolean = () => false): number | undefined {
    const failure = this.#find(need);
    if (!failure) return undefined;
    const now = performance.now();
    if (isNew(now - failure.failedAt)) return undefined;
    if (now < failure.tryEnds) return failure.tryMs;
    const isNext = now - failure.askedAt <= failure.nextMs;
    failure.askedAt = now;
    failure.until = now + failure.nextMs + SOON_MS;
    if (now - failure.failedAt <= HEARD_MS && (isNext || failure.tries >= TRIES)) return 0;
    if (++failure.tries > TRIES) failure.tryMs *= 2;
    failure.tryEnds = now + failure.tryMs;
    failure.until = failure.tryEnds + SOON_MS;
    return failure.tryMs;
  }

  #find(need: StoreNeed): Failure | undefined {
    const { offset, end } = partOf(need);
    return this.#recent(keyOf(need)).findLast((one) => offset >= one.offset && end <= one.end);
  }

  #recent(key: string): readonly Failure[] {
    const now = performance.now();
    return (this.#failures.get(key) ?? []).filter(({ until }) => now <= until);
  }
}

function keyOf(need: StoreNeed): string {
  return need.kind === 'blob' ? toHex(need.digest) : need.key;
}

function partOf(need: StoreNeed): Part {
  return need.kind === 'blob'
    ? { offset: need.offset, end: need.offset + need.length }
    : { offset: 0, end: 0 };
}
