import { LRUCache } from 'lru-cache';
import { orAborted } from '../../util/async/abort.ts';
import { StoreError } from '../../util/errors.ts';
import type { CollectionState } from './collection-state.ts';
import { readState } from './collection-state.ts';
import type { ObjectStore } from './object-store.ts';

const HOUR_MS = 3_600_000;
/**
 * What was put within this time a collection leaves alone, whatever refers to it. It is longer than any upload takes; and
 * who relies on something that was put longer ago than half of it puts it again.
 */
export const GRACE_MS = 24 * HOUR_MS;
const OLD_MS = GRACE_MS / 2;
/** Everybody who puts has looked within so many milliseconds whether a collection is under way. */
export const NOTICE_MS = 5000;
/** Objects up to this many bytes are sent without asking whether they are there. */
const SMALL = 128 * 1024;
/** Objects that are known to be there, and for how long that is believed. */
const MAX_KNOWN = 1 << 16;
const KNOWN_MS = HOUR_MS;

/**
 * Puts objects, and relies on those that are there, so that no collection takes them before a path info refers to them.
 *
 * What is younger than `OLD_MS` a collection leaves alone for as long again. What is older is put once more, which makes
 * it young; but not while a collection is under way, which may have looked at it already. So a collection tells that it
 * has begun, waits until everybody must have seen that (`NOTICE_MS`), and only then looks at anything.
 *
 * A collection with a shorter grace takes what has just been put. So nothing is put while one is under way, and a path
 * info only if none has begun since.
 */
export class Reliance {
  readonly #objects: ObjectStore;
  readonly #known = new LRUCache<string, true>({ max: MAX_KNOWN, ttl: KNOWN_MS });
  /** The last collection, and when it was looked for. */
  #seen: { readonly at: number; readonly state: Promise<CollectionState | undefined> } | undefined;
  /** The last one with a shorter grace, when what is relied on was put. */
  #short: string | undefined;

  constructor(objects: ObjectStore) {
    this.#objects = objects;
  }

  /** Stores the only object that a key can stand for, made of `size` bytes, if it is not there. Throws UNAVAILABLE. */
  async putOnce(key: string, size: number, make: () => Uint8Array, signal?: AbortSignal): Promise<void> {
    const begun = performance.now();
    const isUnderWay = await this.#look(NOTICE_MS / 2, signal);
    if (this.#known.has(key)) return;
    const there = size > SMALL ? await this.#objects.facts(key, signal) : undefined;
    if (there || !(await this.#objects.put(key, make(), 'absent', signal))) {
      const { modified } = there ?? (await this.#objects.facts(key, signal)) ?? { modified: 0 };
      if (Date.now() - modified > OLD_MS) {
        if (isUnderWay) throw this.#later(`${key} may go with it`);
        await this.#objects.put(key, make(), 'always', signal);
        // It took so long that a collection may have begun unseen.
        if (performance.now() - begun > NOTICE_MS / 2 && (await this.#look(0, signal)))
          throw this.#later(`${key} may have gone with it`);
      }
    }
    this.#known.set(key, true);
  }

  /** Throws UNAVAILABLE when a collection may have taken what a path info refers to that is to be put now. */
  async requireKept(signal?: AbortSignal): Promise<void> {
    const before = this.#short;
    const isFirst = this.#seen === undefined;
    await this.#look(0, signal);
    if (isFirst || before === this.#short) return;
    this.#known.clear();
    throw this.#later('what was put before may be gone');
  }

  /** Whether a collection is under way, as far as was known so many milliseconds ago. */
  async #look(maxAgeMs: number, signal: AbortSignal | undefined): Promise<boolean> {
    const now = performance.now();
    // One look for all who ask at once: it does not end with one of them.
    if (!this.#seen || now - this.#seen.at >= maxAgeMs)
      this.#seen = { at: now, state: readState(this.#objects) };
    const state = await orAborted(this.#seen.state, signal).catch((error) => {
      this.#seen = undefined;
      throw error;
    });
    const isUnderWay = state !== undefined && state.until > Date.now();
    if (state && state.graceMs < GRACE_MS) {
      if (isUnderWay) throw this.#later('it spares nothing that was just put');
      this.#short = state.id;
    }
    return isUnderWay;
  }

  #later(why: string): StoreError {
    return new StoreError(
      'UNAVAILABLE',
      `${this.#objects.address}: a collection has begun, ${why}: try again when it has ended`,
    );
  }
}
