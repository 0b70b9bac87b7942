import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { lockFirstByte } from '../../util/system/file-lock.ts';

/** The database of a store that nobody has open, and nobody can open before it is released. */
export interface Exclusive {
  release(): void;
}

/**
 * Takes the database of a store away from everybody: LMDB holds a lock on the first byte of its lock file as
 * long as a process has it open. Gives the id of such a process if there is one. Not for a process that
 * has it open itself.
 */
export function takeExclusively(dir: string): Exclusive | { readonly heldBy: number } {
  const fd = openSync(join(dir, 'store.lmdb-lock'), 'a+', 0o664);
  const heldBy = lockFirstByte(fd);
  if (heldBy === undefined) return { release: () => closeSync(fd) };
  closeSync(fd);
  return { heldBy };
}
