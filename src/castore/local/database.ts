import type { RootDatabase } from 'lmdb';
import * as lmdb from 'lmdb';

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
