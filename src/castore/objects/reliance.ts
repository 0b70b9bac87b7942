import { LRUCache } from 'lru-cache';
import { orAborted } from '../../util/async/abort.ts';
import { StoreError } from '../../util/errors.ts';
import type { CollectionState } from './collection-state.ts';
import { isUnderWay, readState } from './collection-state.ts';
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
/** Objects that are known to be there, and young, and for how long that is believed. */
const MAX_KNOWN = 1 << 18;
const KNOWN_MS = HOUR_MS;

/**
 * Puts objects, and relies on those that are there, so that no collection takes them before a path info refers to them,
 * nor the path info that was said to be there.
 *
 * What is younger than `OLD_MS` a collection leaves alone for as long again. What is older is put once more, which makes
 * it young; but not while a collection is under way, which may have looked at it already. So a collection tells that it
 * has begun, waits until everybody must have seen that (`NOTICE_MS`), and only then looks at anything. Before a path info
 * is put, all that it refers to is asked for once more, but for what is known.
 *
 * A collection with a shorter grace takes what has just been put: nothing is put while one is under way, and nothing is
 * known any more once one has been.
 */
export class Reliance {
  readonly #objects: ObjectStore;
  readonly #known = new LRUCache<string, true>({ max: MAX_KNOWN, ttl: KNOWN_MS });
  /** The last collection, and when it was looked for. */
  #seen: { readonly at: number; readonly state: Promise<CollectionState | undefined> } | undefined;
  /** The last collection with a shorter grace. */
  #short: string | undefined;

  constructor(objects: ObjectStore) {
    this.#objects = objects;
  }

  /** Stores the only object that a key can stand for, made of `size` bytes, if it is not there. Throws UNAVAILABLE. */
  async putOnce(key: string, size: number, make: () => Uint8Array, signal?: AbortSignal): Promise<void> {
    const id = await this.#look(NOTICE_MS / 2, signal);
    if (this.#known.has(key)) return;
    const there = size > SMALL && (await this.#objects.facts(key, signal)) !== undefined;
    if (there || !(await this.#objects.put(key, make(), 'absent', signal)))
      await this.#renewed(key, id, async () => make(), signal);
    this.#known.set(key, true);
  }

  /**
   * Sees to it that an object which is there stays there for as long as an upload takes; false when it is not there.
   * Throws UNAVAILABLE.
   */
  async keep(key: string, limit: number, signal?: AbortSignal): Promise<boolean> {
    const id = await this.#look(NOTICE_MS / 2, signal);
    if (this.#known.has(key)) return true;
    const read = async () => (await this.#objects.get(key, limit, signal))?.bytes;
    if (!(await this.#renewed(key, id, read, signal))) return false;
    this.#known.set(key, true);
    return true;
  }

  /** Whether something was put so long ago that whoever relies on it has to put it again. */
  isOld(modified: number): boolean {
    return Date.now() - modified > OLD_MS;
  }

  /** Throws UNAVAILABLE while a collection is under way, as far as is known now. */
  async requireNone(what: string, signal?: AbortSignal): Promise<void> {
    if (await this.#look(0, signal)) throw this.#later(what);
  }

  /** Puts an object again if it is old; false when it is not there. `id`: of the collection under way before, if any. */
  async #renewed(
    key: string,
    id: string | undefined,
    read: () => Promise<Uint8Array | undefined>,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const begun = performance.now();
    const facts = await this.#objects.facts(key, signal);
    if (!facts) return false;
    if (!this.isOld(facts.modified)) return true;
    if (id !== undefined) throw this.#later(key);
    const bytes = await read();
    if (!bytes) return false;
    await this.#objects.put(key, bytes, 'always', signal);
    // It took so long that a collection may have begun unseen.
    if (performance.now() - begun > NOTICE_MS / 2) await this.requireNone(key, signal);
    return true;
  }

  /** The collection that is under way, as far as was known so many milliseconds ago. Throws UNAVAILABLE for a short one. */
  async #look(maxAgeMs: number, signal: AbortSignal | undefined): Promise<string | undefined> {
    const now = performance.now();
    // One look for all who ask at once: it does not end with one of them.
    if (!this.#seen || now - this.#seen.at >= maxAgeMs)
      this.#seen = { at: now, state: readState(this.#objects) };
    const seen = this.#seen;
    seen.state.catch(() => {
      if (this.#seen === seen) this.#seen = undefined;
    });
    const state = await orAborted(seen.state, signal);
    if (!state) return undefined;
    const id = isUnderWay(state) ? state.id : undefined;
    if (state.graceMs < GRACE_MS && state.id !== this.#short) {
      this.#short = state.id;
      this.#known.clear();
    }
    if (state.graceMs < GRACE_MS && id !== undefined) throw this.#later('whatever was just put');
    return id;
  }

  #later(what: string): StoreError {
    return new StoreError(
      'UNAVAILABLE',
      `${this.#objects.address}: a collection is under way and may take ${what}: try again when it has ended`,
    );
  }
}
