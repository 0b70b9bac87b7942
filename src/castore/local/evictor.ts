import { closeSync } from 'node:fs';
import { deleteRows, lockForDeleting } from './collector.ts';
import { DigestMap } from './digest-map.ts';
import type { Environment } from './environment.ts';
import { Holds } from './holds.ts';
import { removeOrphans } from './orphans.ts';
import type { RecentUse } from './recent-use.ts';
import { lackOfRoom, rowsAtOnce } from './reserve.ts';
import { parseChunkRow } from './rows.ts';
import { scan } from './scan.ts';
import type { Table, TableRow } from './table.ts';

/** How far below its limit a cache is brought: so it is not done for every chunk. */
const TARGET = 0.9;
const BATCH = 512;

export interface Eviction {
  /** Bytes that the cache holds now, and that went. */
  readonly size: number;
  readonly freed: number;
}

/**
 * Brings a cache below a size, and gives back what is to be left free on its disk: what was used least recently goes.
 * Nobody relies on what is in a cache; who misses something fetches it again, and a file that is open stays readable. So
 * this needs no epochs, only that one does it at a time; what this process holds stays. Throws UNAVAILABLE when another
 * process does it.
 */
export async function evict(
  env: Environment,
  uses: RecentUse,
  limit: number,
  holds: Holds = new Holds(),
): Promise<Eviction> {
  const lock = lockForDeleting(env);
  try {
    // Then what is left on the disk is what rows tell of.
    const orphaned = await removeOrphans(env);
    const { size, until } = await measured(env, uses, limit, holds);
    const freed = until ? await remove(env, uses, until, holds) : 0;
    return { size: size - freed, freed: freed + orphaned };
  } finally {
    closeSync(lock);
  }
}

/** What `evict` would take, as things are now. */
export async function planEviction(
  env: Environment,
  uses: RecentUse,
  limit: number,
): Promise<Eviction & { readonly going: DigestMap }> {
  const holds = new Holds();
  const { size, until } = await measured(env, uses, limit, holds);
  const going = new DigestMap();
  let freed = 0;
  for await (const { table, rows } of until ? leastUsed(env, uses, until, holds) : []) {
    for (const { key, value } of rows) {
      freed += rowSize(env, table, key, value);
      going.set(key);
    }
  }
  return { size: size - freed, freed, going };
}

/** What was used last before this goes, and so many bytes of what was used just then. In minutes, see `RecentUse`. */
interface Until {
  readonly time: number;
  readonly ofIt: number;
}

/** The size of a cache, and until when all is to go, if it is too large. */
async function measured(
  env: Environment,
  uses: RecentUse,
  limit: number,
  holds: Holds,
): Promise<{ size: number; until?: Until }> {
  const byTime = await measure(env, uses, holds);
  const size = sizeOf(env, byTime.files);
  const lack = lackOfRoom(env.dir);
  if (size <= limit && lack === 0) return { size };
  const excess = size > limit ? size - limit * TARGET : 0;
  return { size, until: oldest(byTime.bytes, Math.max(excess, lack / TARGET)) };
}

/** The size of a cache in bytes: its chunk files, and the used part of its database. */
function sizeOf(env: Environment, files: number): number {
  return files + env.databaseSize().used;
}

/** Bytes that may go by the time of the last use, and bytes in chunk files. */
async function measure(env: Environment, uses: RecentUse, holds: Holds) {
  const bytes = new Map<number, number>();
  let files = 0;
  for (const table of tables(env)) {
    for await (const rows of scan(env, table)) {
      for (const { key, value } of rows) {
        const size = rowSize(env, table, key, value);
        if (size !== value.length) files += size;
        if (holds.has(key)) continue;
        const time = uses.lastUse(key);
        bytes.set(time, (bytes.get(time) ?? 0) + size);
      }
    }
  }
  return { bytes, files };
}

/** Until when all may go, and how many bytes of what was used then, so that `excess` bytes are freed. */
function oldest(bytes: ReadonlyMap<number, number>, excess: number): Until {
  let left = excess;
  for (const [time, size] of [...bytes].sort(([a], [b]) => a - b)) {
    if (size >= left) return { time, ofIt: left };
    left -= size;
  }
  return { time: Number.POSITIVE_INFINITY, ofIt: 0 };
}

async function* leastUsed(
  env: Environment,
  uses: RecentUse,
  until: Until,
  holds: Holds,
): AsyncGenerator<{ table: Table; rows: TableRow[] }> {
  let { ofIt } = until;
  for (const table of tables(env)) {
    for await (const slice of scan(env, table)) {
      const rows = slice.filter(({ key, value }) => {
        if (holds.has(key)) return false;
        const time = uses.lastUse(key);
        if (time !== until.time) return time < until.time;
        const before = ofIt;
        ofIt -= rowSize(env, table, key, value);
        return before > 0;
      });
      yield { table, rows };
    }
  }
}

async function remove(env: Environment, uses: RecentUse, until: Until, holds: Holds): Promise<number> {
  const marks = env.table('provisional');
  let freed = 0;
  for await (const { table, rows } of leastUsed(env, uses, until, holds)) {
    for (let next = 0; next < rows.length; ) {
      const some = rows.slice(next, next + rowsAtOnce(env.dir, BATCH)).map(({ key }) => key);
      next += some.length;
      const deleted = await env.transactionSoon(() => {
        // Somebody may have begun to read it meanwhile.
        const keys = some.filter((key) => !holds.has(key));
        for (const key of keys) {
          uses.forget(key);
          if (table === env.manifests) marks.removeSync(key);
        }
        return deleteRows(env, table, keys, () => true);
      });
      deleted.removeFiles();
      freed += deleted.bytes;
    }
  }
  return freed;
}

/** Chunks last: what refers goes before what is referred to. */
function tables(env: Environment): Table[] {
  return [env.directories, env.manifests, env.outboards, env.chunks];
}

function rowSize(env: Environment, table: Table, key: Uint8Array, value: Uint8Array): number {
  if (table !== env.chunks) return value.length;
  try {
    const row = parseChunkRow(value, key);
    return row.kind === 'file' ? row.size : value.length;
  } catch {
    return value.length;
  }
}
