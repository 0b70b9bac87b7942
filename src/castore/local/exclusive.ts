import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { addressOf, libc } from '../../util/system/libc.ts';

const F_GETLK = 5;
const F_SETLK = 6;
const F_WRLCK = 1;
const F_UNLCK = 2;
const FLOCK_LENGTH = 32;

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
  // struct flock: type i16, whence i16, start i64, length i64, process i32.
  const lock = Buffer.alloc(FLOCK_LENGTH);
  lock.writeInt16LE(F_WRLCK, 0);
  lock.writeBigInt64LE(1n, 16);
  if (libc.fcntl(fd, F_SETLK, addressOf(lock)) === 0) return { release: () => closeSync(fd) };
  libc.fcntl(fd, F_GETLK, addressOf(lock));
  closeSync(fd);
  return { heldBy: lock.readInt16LE(0) === F_UNLCK ? 0 : lock.readInt32LE(24) };
}
