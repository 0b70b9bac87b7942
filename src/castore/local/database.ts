import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { RootDatabase } from 'lmdb';

const lmdb = loadLmdb();

/** Address space for a database. It costs nothing until it is used. */
const MAP_SIZE = 2 ** 40;
/** More than any version of this program has made: a damaged or newer database may have others. */
const MAX_TABLES = 64;
const MAX_READERS = 1024;

/** Opens a database file, or makes it. Throws what LMDB does. Its tables are opened by `Table`. */
export function openDatabase(path: string, { readOnly = false } = {}): RootDatabase {
  return lmdb.open({
    path,
    noSubdir: true,
    readOnly,
    mapSize: MAP_SIZE,
    maxDbs: MAX_TABLES,
    maxReaders: MAX_READERS,
    encoding: 'binary',
    keyEncoding: 'binary',
  });
}

/** The database of the store in a directory. */
export function databasePath(dir: string): string {
  return join(dir, 'store.lmdb');
}

/** Without the native part of a codec of its that nothing here uses: loading that takes longer than all the rest. */
function loadLmdb(): typeof import('lmdb') {
  const name = 'MSGPACKR_NATIVE_ACCELERATION_DISABLED';
  const before = process.env[name];
  process.env[name] = 'true';
  try {
    return createRequire(import.meta.url)('lmdb');
  } finally {
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  }
}
