import { LRUCache } from 'lru-cache';
import type { ReadEntry } from '../fs/read-log.ts';
import { READING, ReadLog } from '../fs/read-log.ts';
import type { Used } from '../store/profile/builder.ts';
import { ProfileBuilder } from '../store/profile/builder.ts';
import { ProfileTable } from '../store/profile/table.ts';
import { latin1 } from '../util/bytes.ts';
import { messageOf } from '../util/errors.ts';
import { log } from '../util/log.ts';
import type { Keeper } from './fetch/keeper.ts';

/** How often it is looked at what was read, in milliseconds. */
const INTERVAL_MS = 1000;
/** Store paths whose profiles are being made. */
const MAX_PATHS = 256;

/** Keeps the profiles of the store paths in a cache up to date with what is read of them. */
export class ProfileNoter {
  readonly #keeper: Keeper;
  readonly #log: ReadLog;
  readonly #table: ProfileTable;
  readonly #timer: NodeJS.Timeout;
  readonly #builders = new LRUCache<string, ProfileBuilder>({
    max: MAX_PATHS,
    dispose: (builder) => this.#save(builder),
  });

  /** `memory`: of the log in which the threads that serve note what is read. */
  constructor(keeper: Keeper, memory: SharedArrayBuffer) {
    this.#keeper = keeper;
    this.#log = new ReadLog(memory);
    this.#table = new ProfileTable(keeper.cache.env);
    this.#timer = setInterval(() => this.#look(), INTERVAL_MS).unref();
  }

  #look(): void {
    try {
      for (const entry of this.#log.take()) this.#builder(entry.storePath)?.add(usedIn(entry));
      for (const builder of this.#builders.values()) this.#save(builder);
      this.#table.trim();
    } catch (error) {
      // It only makes the next time slower.
      log.debug('cannot note what is read', { error: messageOf(error) });
    }
  }

  #builder(hash: Uint8Array): ProfileBuilder | undefined {
    const key = latin1(hash);
    const known = this.#builders.get(key);
    if (known) return known;
    const node = this.#keeper.infoOf(hash)?.node;
    if (node?.kind !== 'directory') return undefined;
    const builder = new ProfileBuilder(node.digest, this.#table.get(node.digest.bytes));
    this.#builders.set(key, builder);
    return builder;
  }

  #save(builder: ProfileBuilder): void {
    if (!builder.changed) return;
    const profile = builder.profile();
    void this.#keeper.note(this.#table.table, profile.root.bytes, this.#table.row(profile));
  }

  close(): void {
    clearInterval(this.#timer);
    this.#look();
  }
}

function usedIn({ kind, directory, entry, child, start, count }: ReadEntry): Used {
  if (kind === READING.directory) return { directory, entry, what: { child } };
  return { directory, entry, what: kind === READING.file ? 'file' : { start, count } };
}
