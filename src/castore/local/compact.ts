import { statSync } from 'node:fs';
import { databasePath, openDatabase } from './database.ts';
import { replaceDatabase, withDatabaseAlone } from './exclusive.ts';

/** Sizes of a database file in bytes. */
export interface Compaction {
  readonly before: number;
  readonly after: number;
}

/**
 * Writes the database of a store anew, without the room in it that rows have left which were deleted. Throws
 * FAILED_PRECONDITION when a process has it open, and NO_SPACE where there is no room for both.
 */
export function compactDatabase(dir: string): Promise<Compaction> {
  const path = databasePath(dir);
  const why = `the database in ${dir} has to be written anew`;
  return withDatabaseAlone(dir, why, async (alias) => {
    const before = statSync(path).size;
    await replaceDatabase(dir, before, why, async (fresh) => {
      const root = openDatabase(alias, { readOnly: true });
      try {
        await root.backup(fresh, true);
      } finally {
        await root.close();
      }
    });
    return { before, after: statSync(path).size };
  });
}
