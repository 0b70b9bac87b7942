import { closeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { lockForDeleting } from '../../castore/local/collector.ts';
import type { Environment } from '../../castore/local/environment.ts';
import { removeOrphans } from '../../castore/local/orphans.ts';
import { formatSize } from '../../util/bytes.ts';
import { messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';

const INTERVAL_MS = 3_600_000;
/** How long closing takes at most, in milliseconds. */
const CLOSE_MS = 2000;

/** Removes from a cache, at first and now and then, the files that killed mounts have left: nobody else counts them. */
export class CacheSweep {
  readonly #env: Environment;
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void>;

  constructor(env: Environment) {
    this.#env = env;
    this.#running = this.#sweep();
    this.#timer = setInterval(() => {
      this.#running = this.#running.then(() => this.#sweep());
    }, INTERVAL_MS).unref();
  }

  async #sweep(): Promise<void> {
    try {
      const lock = lockForDeleting(this.#env);
      try {
        const bytes = await removeOrphans(this.#env);
        if (bytes > 0) log.debug('removed what killed processes have left', { bytes: formatSize(bytes) });
      } finally {
        closeSync(lock);
      }
    } catch (error) {
      // Another process is at it.
      if (error instanceof StoreError && error.code === 'UNAVAILABLE') return;
      log.warn('cannot clear up the cache', { error: messageOf(error) });
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    // The next one goes on.
    await Promise.race([this.#running, delay(CLOSE_MS, undefined, { ref: false })]);
  }
}
