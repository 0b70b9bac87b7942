import { AsyncLocalStorage } from 'node:async_hooks';
import { latin1 } from '../../util/bytes.ts';
import type { Hold } from './use-listener.ts';

/** What comes in the course of some work, and is to stay until that is done. */
const current = new AsyncLocalStorage<Hold>();

/** Does work of which everything stays that it reads from a cache or brings into it, until it is done. */
export async function holding<T>(hold: Hold | undefined, work: () => Promise<T>): Promise<T> {
  if (!hold) return work();
  try {
    return await current.run(hold, work);
  } finally {
    hold.release();
  }
}

/** What in a cache must not be evicted now, because this process reads it or has just brought it. */
export class Holds {
  readonly #counts = new Map<string, number>();

  has(digest: Uint8Array): boolean {
    return this.#counts.size > 0 && this.#counts.has(latin1(digest));
  }

  /** Has it stay for whoever works with it. */
  note(digest: Uint8Array): void {
    current.getStore()?.add(digest);
  }

  begin(): Hold {
    const counts = this.#counts;
    const own = new Set<string>();
    return {
      add(digest) {
        const key = latin1(digest);
        if (own.has(key)) return false;
        own.add(key);
        counts.set(key, (counts.get(key) ?? 0) + 1);
        return true;
      },
      release() {
        for (const key of own) {
          const count = counts.get(key)! - 1;
          if (count === 0) counts.delete(key);
          else counts.set(key, count);
        }
        own.clear();
      },
    };
  }
}
