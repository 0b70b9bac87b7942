import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { orAborted } from '../../util/async/abort.ts';
import { asBuffer } from '../../util/bytes.ts';
import { StoreError } from '../../util/errors.ts';
import type { CollectionState } from './collection-state.ts';
import { isUnderWay, readState } from './collection-state.ts';
import { markFormat } from './format.ts';
import type { ObjectFacts, ObjectStore } from './object-store.ts';

const HOUR_MS = 3_600_000;
/**
 * What was put within this time a collection leaves alone, whatever refers to it. It is longer than any upload takes; and
 * who relies on something that was put longer ago than half of it puts it again.
 */
export const GRACE_MS = 24 * HOUR_MS;
const OLD_MS = GRACE_MS / 2;
/** Everybody who puts has looked within so many milliseconds whether a collection is under way. */
export const NOTICE_MS = 5000;
/** Objects up to this many bytes are sent without asking whether they are there, unless the last such one was. */
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
  #marked: Promise<void> | undefined;
  /** Whether the last small object that was put was there already. A client may have been cut off, and begins again. */
  #wasThere = true;
  /** Whether what the store tells as an MD5 is one, as far as is known. */
  #tellsMd5 = true;

  constructor(objects: ObjectStore) {
    this.#objects = objects;
  }

  /**
   * Stores what a key stands for, made of `size` bytes, unless the same is there: something else is damaged, or was made
   * in another way, and is replaced. Throws UNAVAILABLE.
   */
  async putOnce(key: string, size: number, make: () => Uint8Array, signal?: AbortSignal): Promise<void> {
    const id = await this.#look(NOTICE_MS / 2, signal);
    if (this.#known.has(key)) return;
    if (this.#objects.isFar) await this.mark();
    const bytes = make();
    const facts = async () => this.#objects.facts(key, signal);
    const asksFirst = size > SMALL || this.#wasThere;
    let there = asksFirst ? await facts() : undefined;
    if (!there && !(await this.#objects.put(key, bytes, 'absent', signal))) there = await facts();
    if (size <= SMALL) this.#wasThere = there !== undefined;
    if (there && (this.isOld(there.modified) || !(await this.#isSame(key, there, bytes, signal))))
      await this.#replace(key, there, id, async () => bytes, signal);
    this.#known.set(key, true);
  }

  /** See `markFormat`; once is enough. */
  async mark(): Promise<void> {
    this.#marked ??= markFormat(this.#objects);
    try {
      await this.#marked;
    } catch (error) {
      this.#marked = undefined;
      throw error;
    }
  }

  /** Has an object looked for again that was found to be damaged, or not there. */
  forget(key: string): void {
    this.#known.delete(key);
  }

  /** Whether an object is these bytes, as far as its facts tell; where they do not, it is read. */
  async #isSame(
    key: string,
    { size, md5 }: ObjectFacts,
    bytes: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    if (size !== bytes.length) return false;
    if (md5 !== undefined && md5 === createHash('md5').update(bytes).digest('hex')) return true;
    if (md5 !== undefined && !this.#tellsMd5) return true;
    const found = await this.#objects.get(key, size, signal);
    const isSame = found !== undefined && asBuffer(found.bytes).equals(bytes);
    if (isSame && md5 !== undefined) this.#tellsMd5 = false;
    return isSame;
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
    const facts = await this.#objects.facts(key, signal);
    if (!facts) return false;
    return this.isOld(facts.modified) ? this.#replace(key, facts, id, read, signal) : true;
  }

  /** Puts an object over one that is there, but not over one that a collection may be about to take. */
  async #replace(
    key: string,
    { modified }: ObjectFacts,
    id: string | undefined,
    read: () => Promise<Uint8Array | undefined>,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const begun = performance.now();
    if (id !== undefined && this.isOld(modified)) throw this.#later(key);
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
