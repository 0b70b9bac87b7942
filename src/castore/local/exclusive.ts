import {
  chmodSync,
  chownSync,
  closeSync,
  fsyncSync,
  linkSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
} from 'node:fs';
import { join } from 'node:path';
import { formatSize } from '../../util/bytes.ts';
import { StoreError } from '../../util/errors.ts';
import { lockFirstByte } from '../../util/system/file-lock.ts';
import { syncPath } from './chunk-files.ts';
import { databasePath } from './database.ts';
import { freeBytes } from './reserve.ts';

/** The database of a store that nobody has open, and nobody can open before it is released. */
interface Exclusive {
  release(): void;
}

/**
 * Takes the database of a store away from everybody: LMDB holds a lock on the first byte of its lock file as
 * long as a process has it open. Gives the id of such a process if there is one. Not for a process that
 * has it open itself.
 */
function takeExclusively(dir: string): Exclusive | { readonly heldBy: number } {
  const fd = openSync(join(dir, 'store.lmdb-lock'), 'a+', 0o664);
  const heldBy = lockFirstByte(fd);
  if (heldBy === undefined) return { release: () => closeSync(fd) };
  closeSync(fd);
  return { heldBy };
}

/**
 * Does work with a database that nobody else has open, under another name: LMDB would wait for our lock under its own.
 * Throws FAILED_PRECONDITION when another process has it open; `why` says what
 * the database is needed for.
 */
export async function withDatabaseAlone<T>(
  dir: string,
  why: string,
  work: (alias: string) => Promise<T>,
): Promise<T> {
  const path = databasePath(dir);
  const exclusive = takeExclusively(dir);
  if ('heldBy' in exclusive) {
    throw new StoreError(
      'FAILED_PRECONDITION',
      `${why}, and is in use: stop process ${exclusive.heldBy} first`,
    );
  }
  const alias = `${path}.alone`;
  try {
    remove(alias);
    linkSync(path, alias);
    return await work(alias);
  } finally {
    remove(alias);
    exclusive.release();
  }
}

/**
 * Puts what `write` makes in place of a database that nobody else has open (`withDatabaseAlone`), as a whole or not at all.
 * Throws NO_SPACE before it begins when there is not as much room as the new one may take.
 */
export async function replaceDatabase(
  dir: string,
  needed: number,
  why: string,
  write: (fresh: string) => Promise<void>,
): Promise<void> {
  const path = databasePath(dir);
  if (freeBytes(dir) < needed) {
    throw new StoreError(
      'NO_SPACE',
      `${why}, which takes up to ${formatSize(needed)}; ${formatSize(freeBytes(dir))} are free on that disk`,
    );
  }
  const fresh = `${path}.new`;
  try {
    remove(fresh);
    await write(fresh);
    const { uid, gid, mode } = statSync(path);
    chownSync(fresh, uid, gid);
    chmodSync(fresh, mode);
    syncPath(fresh, fsyncSync);
    renameSync(fresh, path);
    syncPath(dir, fsyncSync);
    // Whoever begins to wait for it just now fails; the next one makes a new one of it.
    truncateSync(`${path}-lock`);
  } finally {
    remove(fresh);
  }
}

function remove(database: string): void {
  for (const path of [database, `${database}-lock`]) rmSync(path, { force: true });
}
