import { setTimeout as delay } from 'node:timers/promises';
import type { Environment } from '../../castore/local/environment.ts';
import { evict } from '../../castore/local/evictor.ts';
import { RecentUse } from '../../castore/local/recent-use.ts';
import { lackOfRoom } from '../../castore/local/reserve.ts';
import { formatSize } from '../../util/bytes.ts';
import { messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';

/** Shortest time between two looks at the size, when uses are written down as well, in milliseconds. */
const INTERVAL_MS = 60_000;
/** After so many looks the size is measured, whatever this mount has added: others may use the same cache. */
const MEASURE_EVERY = 10;
/** How long closing takes at most, in milliseconds. */
const CLOSE_MS = 2000;

/** After so many bytes that were added it is looked whether enough is left free on the disk. */
const ROOM_EVERY = 64 << 20;

/** Keeps a cache below a size, and leaves room on its disk (`setKeepFree`), in the background. */
export class CacheLimit {
  readonly #env: Environment;
  readonly #limit: number;
  readonly #uses: RecentUse;
  readonly #timer: NodeJS.Timeout;
  /** As measured last, and what was added since. */
  #size = Number.POSITIVE_INFINITY;
  #added = 0;
  #looks = 0;
  #running: Promise<void> | undefined;
  #writing: Promise<void> | undefined;

  constructor(env: Environment, limit: number) {
    this.#env = env;
    this.#limit = limit;
    this.#uses = new RecentUse(env);
    this.#timer = setInterval(() => this.#look(), INTERVAL_MS).unref();
    this.#look();
  }

  /** Notes that something was fetched. */
  added(digest: Uint8Array, size: number): void {
    this.#uses.note(digest);
    this.#size += size;
    this.#added += size;
    if (this.#size > this.#limit && Number.isFinite(this.#size)) this.#run();
    else if (this.#added > ROOM_EVERY) this.#lookForRoom();
  }

  used(digests: readonly string[]): void {
    for (const digest of digests) this.#uses.note(Buffer.from(digest, 'latin1'));
  }

  #look(): void {
    void this.#writeUses();
    this.#lookForRoom();
    if (this.#size > this.#limit || ++this.#looks % MEASURE_EVERY === 0) this.#run();
  }

  #lookForRoom(): void {
    this.#added = 0;
    if (lackOfRoom(this.#env.dir) > 0) this.#run();
  }

  /** One at a time: another writer may keep us waiting. */
  #writeUses(): Promise<void> {
    this.#writing ??= this.#uses
      .flush()
      .catch((error) => log.debug('cannot note what was used', { error: messageOf(error) }))
      .finally(() => {
        this.#writing = undefined;
      });
    return this.#writing;
  }

  #run(): void {
    this.#running ??= this.#evict().finally(() => {
      this.#running = undefined;
    });
  }

  async #evict(): Promise<void> {
    // What has just come is the last to go.
    await this.#writeUses();
    try {
      const { size, freed } = await evict(this.#env, this.#uses, this.#limit);
      this.#size = size;
      if (freed > 0) log.debug('evicted', { bytes: formatSize(freed), left: formatSize(size) });
    } catch (error) {
      // Another process is at it: what it leaves is measured at the next look.
      if (!(error instanceof StoreError && error.code === 'UNAVAILABLE')) {
        log.warn('cannot keep the cache below its size', { error: messageOf(error) });
      }
      this.#size = Number.POSITIVE_INFINITY;
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    // Not for as long as another writer likes: uses that are not noted do no harm.
    const done = Promise.all([this.#running, this.#writeUses()]);
    await Promise.race([done, delay(CLOSE_MS, undefined, { ref: false })]);
  }
}
