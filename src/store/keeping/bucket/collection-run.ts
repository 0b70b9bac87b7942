import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { isUnderWay, readState, STATE_KEY, writeState } from '../../../castore/objects/collection-state.ts';
import type { ObjectStore } from '../../../castore/objects/object-store.ts';
import { NOTICE_MS } from '../../../castore/objects/reliance.ts';
import { messageOf, StoreError } from '../../../util/errors.ts';
import { log } from '../../../util/log.ts';

/** A collection says so often that it goes on, and is believed for so long, in milliseconds. */
const SAID_MS = 60_000;
const BELIEVED_MS = 5 * SAID_MS;

/** A collection in a bucket, which has told everybody that it is under way: see `Reliance`. */
export class CollectionRun {
  readonly #objects: ObjectStore;
  readonly #id = randomUUID();
  readonly #graceMs: number;
  #timer: NodeJS.Timeout | undefined;
  /** When it was last said that it is under way. */
  #said = 0;
  /** How far the clock of the store is ahead of ours. */
  #ahead = 0;

  private constructor(objects: ObjectStore, graceMs: number) {
    this.#objects = objects;
    this.#graceMs = graceMs;
  }

  /** Resolves when everybody must have seen it. Throws UNAVAILABLE when another one is under way. */
  static async begin(objects: ObjectStore, graceMs: number, signal?: AbortSignal): Promise<CollectionRun> {
    const other = await readState(objects, signal);
    if (other && isUnderWay(other)) {
      throw new StoreError(
        'UNAVAILABLE',
        `${objects.address}: another collection is under way, or was killed less than a quarter of an hour ago`,
      );
    }
    const run = new CollectionRun(objects, graceMs);
    try {
      await run.#say();
      const facts = await objects.facts(STATE_KEY, signal);
      if (facts) run.#ahead = facts.modified - Date.now();
      await delay(NOTICE_MS, undefined, { signal });
      await run.#requireOurs(signal);
    } catch (error) {
      await run.end();
      throw error;
    }
    run.#timer = setInterval(() => {
      run
        .#say()
        .catch((error) => log.warn('cannot tell that a collection goes on', { error: messageOf(error) }));
    }, SAID_MS);
    return run;
  }

  /** By the clock of the store, in milliseconds since 1970. */
  readonly now = (): number => Date.now() + this.#ahead;

  /** Removes objects, unless it has been so long without a word that others may believe it has ended. */
  async remove(keys: readonly string[], signal?: AbortSignal): Promise<void> {
    if (keys.length === 0) return;
    if (performance.now() - this.#said > BELIEVED_MS / 2) throw this.#lost();
    await this.#requireOurs(signal);
    await this.#objects.remove(keys, signal);
  }

  async end(): Promise<void> {
    clearInterval(this.#timer);
    try {
      if ((await readState(this.#objects))?.id !== this.#id) return;
      await writeState(this.#objects, { id: this.#id, until: 0, graceMs: this.#graceMs });
    } catch (error) {
      log.warn('cannot tell that a collection has ended', { error: messageOf(error) });
    }
  }

  async #say(): Promise<void> {
    const now = performance.now();
    await writeState(this.#objects, {
      id: this.#id,
      until: Date.now() + BELIEVED_MS,
      graceMs: this.#graceMs,
    });
    this.#said = now;
  }

  async #requireOurs(signal: AbortSignal | undefined): Promise<void> {
    if ((await readState(this.#objects, signal))?.id !== this.#id) throw this.#lost();
  }

  #lost(): StoreError {
    return new StoreError(
      'UNAVAILABLE',
      `${this.#objects.address}: another collection has begun, or this one was stopped for too long: begin again`,
    );
  }
}
