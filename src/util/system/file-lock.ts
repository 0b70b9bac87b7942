import { closeSync, existsSync, fstatSync, openSync, unlinkSync } from 'node:fs';
import { isAbsence } from '../errors.ts';
import { CallBuffer } from './call-buffer.ts';
import { libc } from './libc.ts';
import type { Ownership } from './ownership.ts';

/** Operations of `flock`. */
const LOCK = { shared: 1, exclusive: 2 } as const;
const LOCK_NB = 4;

/**
 * Takes a lock on an open file or directory, in place of one that this descriptor has; false when another holds it.
 * The kernel frees it when the descriptor is closed, however the process ends.
 */
export function lockDescriptor(fd: number, kind: keyof typeof LOCK): boolean {
  return libc.flock(fd, LOCK[kind] | LOCK_NB) === 0;
}

/** Makes a new file and locks it; gives its descriptor. `undefined` when a process that clears up was faster. */
export function makeLocked(path: string, owner: Ownership): number | undefined {
  const fd = openSync(path, 'wx+');
  owner.give(fd);
  // Whoever clears up has locked it, or removed it already.
  if (lockDescriptor(fd, 'exclusive') && fstatSync(fd).nlink > 0) return fd;
  closeSync(fd);
  return undefined;
}

/** Locks a file that stays where it is, and makes it where there is none; `undefined` when another has it. */
export function tryLock(path: string, owner: Ownership): number | undefined {
  const isNew = !existsSync(path);
  const fd = openSync(path, 'a');
  if (isNew) owner.share(fd);
  if (lockDescriptor(fd, 'exclusive')) return fd;
  closeSync(fd);
  return undefined;
}

/** Reads a file of `makeLocked`. When the process that made it has ended, removes the file and gives `undefined`. */
export function readLocked<T>(path: string, read: (fd: number) => T): T | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    if (isAbsence(error)) return undefined;
    throw error;
  }
  try {
    if (!lockDescriptor(fd, 'exclusive')) return read(fd);
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
    if (!isAbsence(error)) throw error;
    return false;
  }
}

const F_GETLK = 5;
const F_SETLK = 6;
const F_WRLCK = 1;
const F_UNLCK = 2;
const FLOCK_LENGTH = 32;

/**
 * Takes the record lock (`fcntl`) on the first byte of a file. It belongs to the whole process, which loses it by
 * closing any descriptor of that file. When another process has it, gives the id of that process, or 0 if it has just
 * let go; `undefined` when the lock was taken.
 */
export function lockFirstByte(fd: number): number | undefined {
  // struct flock: type i16, whence i16, start i64, length i64, process i32.
  const { bytes, address } = new CallBuffer(FLOCK_LENGTH);
  bytes.fill(0).writeInt16LE(F_WRLCK, 0);
  bytes.writeBigInt64LE(1n, 16);
  if (libc.fcntl(fd, F_SETLK, address) === 0) return undefined;
  libc.fcntl(fd, F_GETLK, address);
  return bytes.readInt16LE(0) === F_UNLCK ? 0 : bytes.readInt32LE(24);
}
