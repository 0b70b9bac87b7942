import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { StoreError } from '../../util/errors.ts';
import { folders } from './chunk-files.ts';
import { databasePath } from './database.ts';
import { bytesLacking, isDatabase } from './database-pages.ts';

/** Throws before LMDB is let near what would end this process, or be taken for a new store. */
export function checkDatabase(dir: string): void {
  const path = databasePath(dir);
  if (!isThere(path)) {
    if (hasChunkFiles(dir)) throw emptied(dir);
    return;
  }
  if (!isDatabase(path)) throw new Error(`${path} is not an LMDB database`);
  const lacking = bytesLacking(path);
  if (lacking === undefined) return;
  throw new StoreError(
    'DATA_LOSS',
    `the database ${path} has been cut: it has ${statSync(path).size} bytes and should have ${lacking}. Put it back ` +
      'from a backup, or save what can still be read: tvix-store fsck --repair',
  );
}

/** The error for a database that is empty, or not there, beside contents: a new one would have them deleted. */
export function emptied(dir: string): StoreError {
  return new StoreError(
    'DATA_LOSS',
    `the database ${databasePath(dir)} is missing or empty, but there are contents in ${join(dir, 'chunks')}. Put it ` +
      `back from a backup; or, to begin anew, move ${dir} away`,
  );
}

/** Whether there is a database: LMDB leaves an empty file when it is killed while it makes one. */
export function isThere(path: string): boolean {
  return (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0;
}

/** Whether there are contents beside the database. */
export function hasChunkFiles(dir: string): boolean {
  const chunks = join(dir, 'chunks');
  if (!existsSync(chunks)) return false;
  for (const folder of folders(chunks)) if (readdirSync(folder).length > 0) return true;
  return false;
}
