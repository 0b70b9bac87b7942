import { setTimeout as delay } from 'node:timers/promises';
import { formatSize } from '../../util/bytes.ts';
import { messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { Environment } from './environment.ts';
import { evict } from './evictor.ts';
import { Holds } from './holds.ts';
import { RecentUse } from './recent-use.ts';
import { lackOfRoom } from './reserve.ts';
import type { CacheState, Hold, UseListener } from './use-listener.ts';

/** Shortest time between two looks at the size, when uses are written down as well, in milliseconds. */
const INTERVAL_MS = 60_000;
/** After so many looks the size is measured, whatever this process has added: others may use the same cache. */
const MEASURE_EVERY = 10;
/** While another process collects, it is tried again after so long, in milliseconds. */
const AGAIN_MS = 5000;
/** How long closing takes at most, in milliseconds. */
const CLOSE_MS = 2000;

/** After so many bytes that were added it is looked whether enough is left free on the disk. */
const ROOM_EVERY = 64 << 20;
/** What is held may be more than the limit: then so much more has to come, as a part of that, before it is tried again. */
const NEXT_TRY = 0.05;

/**
 * Keeps a cache below a size, and leaves room on its disk (`setKeepFree`), in the background. What is being read, and
 * what is still coming, stays: so the limit holds on average.
 */
export class CacheLimit implements UseListener {
  readonly #env: Environment;
  readonly #limit: number;
  readonly #uses: RecentUse;
  readonly #holds = new Holds();
  /** What had come when each of them began. */
  readonly #began = new Map<Hold, number>();
  readonly #timer: NodeJS.Timeout;
  #again: NodeJS.Timeout | undefined;
  /** As measured last, and what was added since; then bytes that were added at all, and since it was looked for room. */
  #size = Number.POSITIVE_INFINITY;
  #came = 0;
  #added = 0;
  /** Beyond this size something has to go. */
  #most: number;
  #looks = 0;
  #evicted = 0;
  #evictions = 0;
  /** Whether something has been released of late. */
  #isReleased = false;
  #running: Promise<void> | undefined;
  #writing: Promise<void> | undefined;

  constructor(env: Environment, limit: number) {
    this.#env = env;
    this.#limit = limit;
    this.#most = limit;
    this.#uses = new RecentUse(env);
    this.#timer = setInterval(() => this.#look(), INTERVAL_MS).unref();
    env.useListener = this;
    this.#look();
  }

  added(digest: Uint8Array, size: number): void {
    this.used(digest);
    this.#size += size;
    this.#came += size;
    this.#added += size;
    if (this.#size > this.#most && Number.isFinite(this.#size)) this.#run();
    else if (this.#added > ROOM_EVERY) this.#lookForRoom();
  }

  used(digest: Uint8Array): void {
    this.#uses.note(digest);
    this.#holds.note(digest);
  }

  hold(): Hold {
    const hold = this.#holds.begin();
    this.#began.set(hold, this.#came);
    const release = () => {
      hold.release();
      this.#began.delete(hold);
      this.#isReleased = true;
      this.#lookAtReleased();
    };
    return { add: (digest) => hold.add(digest), release };
  }

  get state(): CacheState {
    return {
      limit: this.#limit,
      size: Number.isFinite(this.#size) ? this.#size : undefined,
      evicted: this.#evicted,
      evictions: this.#evictions,
    };
  }

  /** What is no longer held may have been too much. */
  #lookAtReleased(): void {
    if (!this.#isReleased || this.#running) return;
    this.#isReleased = false;
    if (this.#size > this.#limit && Number.isFinite(this.#size)) this.#run();
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
      this.#lookAtReleased();
    });
  }

  async #evict(): Promise<void> {
    // What has just come is the last to go.
    await this.#writeUses();
    // Of what is still coming, rows may not be written yet, and by rows it is measured.
    const [before = this.#came] = this.#began.values();
    try {
      const { size, freed } = await evict(this.#env, this.#uses, this.#limit, this.#holds);
      this.#size = size + this.#came - before;
      this.#most = Math.max(this.#limit, this.#size + this.#limit * NEXT_TRY);
      this.#evicted += freed;
      if (freed > 0) this.#evictions++;
      if (freed > 0) log.debug('evicted', { bytes: formatSize(freed), left: formatSize(size) });
    } catch (error) {
      this.#size = Number.POSITIVE_INFINITY;
      // Another process is at it, but may only have looked.
      if (error instanceof StoreError && error.code === 'UNAVAILABLE')
        this.#again = setTimeout(() => this.#run(), AGAIN_MS).unref();
      else log.warn('cannot keep the cache below its size', { error: messageOf(error) });
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    clearTimeout(this.#again);
    // Not for as long as another writer likes: uses that are not noted do no harm.
    const done = Promise.all([this.#running, this.#writeUses()]);
    await Promise.race([done, delay(CLOSE_MS, undefined, { ref: false })]);
  }
}
