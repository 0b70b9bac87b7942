import { closeSync, fstatSync, openSync, unlinkSync } from 'node:fs';
import { systemCode } from '../../util/errors.ts';
import { libc } from '../../util/system/libc.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;

/**
 * Makes a new file and locks it; gives its descriptor. The kernel frees the lock when the process dies,
 * however that happens. `undefined` when somebody who clears up was faster.
 */
export function makeLocked(path: string): number | undefined {
  const fd = openSync(path, 'wx+');
  // Then this file is gone or locked by them.
  if (libc.flock(fd, LOCK_EX | LOCK_NB) === 0 && fstatSync(fd).nlink > 0) return fd;
  closeSync(fd);
  return undefined;
}

/** Locks a file that stays where it is, and makes it where there is none; `undefined` when another has it. */
export function tryLock(path: string): number | undefined {
  const fd = openSync(path, 'a');
  if (libc.flock(fd, LOCK_EX | LOCK_NB) === 0) return fd;
  closeSync(fd);
  return undefined;
}

/** Reads a file that `makeLocked` made; `undefined`, and the file goes, when the process that made it is no more. */
export function readLocked<T>(path: string, read: (fd: number) => T): T | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    if (libc.flock(fd, LOCK_EX | LOCK_NB) !== 0) return read(fd);
    unlinkIfThere(path);
    return undefined;
  } finally {
    closeSync(fd);
  }
}

/** Removes a file; true if it was there. */
export function unlinkIfThere(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    return false;
  }
}
