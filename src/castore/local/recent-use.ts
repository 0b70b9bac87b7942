import { latin1 } from '../../util/bytes.ts';
import type { Environment } from './environment.ts';
import type { Table } from './table.ts';

const MINUTE_MS = 60_000;
/** Uses in one transaction. */
const BATCH = 4096;
/** A use is written again only when the last one is so many minutes back. */
const EXACTNESS = 10;
/** Of at least so many objects this process knows when it used them last. */
const MAX_RECENT = 1 << 16;

/**
 * When the objects of a cache were used last, by digest, in minutes: what eviction goes by. Uses gather in
 * memory and are written in batches; those of a mount that is killed are lost, which does no harm.
 *
 * What cannot be fetched by itself, because it came as part of a whole, is to be noted as that whole: then it
 * also leaves together.
 */
export class RecentUse {
  readonly #env: Environment;
  readonly #table: Table;
  readonly #noted = new Set<string>();
  /** Uses of late, and those before: a cache may be filled many times over within a minute. */
  #recent = new Map<string, number>();
  #before = new Map<string, number>();

  constructor(env: Environment) {
    this.#env = env;
    this.#table = env.table('used');
  }

  note(digest: Uint8Array): void {
    const key = latin1(digest);
    this.#noted.add(key);
    this.#recent.set(key, Date.now() / MINUTE_MS);
    if (this.#recent.size < MAX_RECENT) return;
    this.#before = this.#recent;
    this.#recent = new Map();
  }

  /** In minutes since 1970, 0 when it is not known; exactly, if it was this process of late. */
  lastUse(digest: Uint8Array): number {
    const key = latin1(digest);
    return this.#recent.get(key) ?? this.#before.get(key) ?? this.#written(digest);
  }

  /** In whole minutes. */
  #written(digest: Uint8Array): number {
    const row = this.#table.view(digest);
    return row?.length === 4 ? row.readUInt32LE(0) : 0;
  }

  /** Writes down what was noted. Whoever serves does not wait for it: another writer may take as long as it likes. */
  async flush(): Promise<void> {
    const now = minutes();
    const value = Buffer.alloc(4);
    value.writeUInt32LE(now);
    const old = [...this.#noted].map((key) => Buffer.from(key, 'latin1'));
    this.#noted.clear();
    this.#env.refresh();
    const due = old.filter((key) => now - this.#written(key) >= EXACTNESS);
    for (let next = 0; next < due.length; next += BATCH) {
      const keys = due.slice(next, next + BATCH);
      await Promise.all(keys.map((key) => this.#env.committed(this.#table.put(key, value))));
    }
  }

  /** Within a transaction of the caller's. */
  forget(digest: Uint8Array): void {
    this.#table.removeSync(digest);
    for (const uses of [this.#recent, this.#before]) uses.delete(latin1(digest));
  }
}

function minutes(): number {
  return Math.floor(Date.now() / MINUTE_MS);
}
