import { closeSync, existsSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { formatSize } from '../../util/bytes.ts';
import { StoreError } from '../../util/errors.ts';
import type { Ownership } from '../../util/system/ownership.ts';

/**
 * A file of zeros that a store keeps on its disk, in bytes, and gives up when that is full: before LMDB frees a page it
 * writes a new one, and when it cannot, it may crash.
 */
const RESERVE = 1 << 20;
/** The reserve is made when so many times as much is free. */
const PLENTY = 8;
/** Below this nothing is written into the database. */
const LEAST = 128 << 10;
/** A deleted row may take so many bytes until its transaction is over: a leaf of the tree, and its part of the others. */
const BYTES_A_ROW = 8192;
const LEAST_ROWS = 8;

/** What this process leaves free on the disks of its stores and caches, in bytes. */
let floor = 0;

/** Has this process leave so many bytes free on the disk of every local store and cache that it writes into. */
export function setKeepFree(bytes: number): void {
  floor = bytes;
}

/** How many bytes there are too few of on the disk of a directory: 0 when enough is free. */
export function lackOfRoom(dir: string): number {
  return floor === 0 ? 0 : Math.max(0, floor - freeBytes(dir));
}

/** Throws NO_SPACE where so many bytes more would take what is to be left free. */
export function requireRoom(dir: string, bytes: number): void {
  if (floor === 0 || freeBytes(dir) - bytes >= floor) return;
  throw new StoreError(
    'NO_SPACE',
    `no space for the store in ${dir}: ${formatSize(floor)} are to be left free on its disk (--keep-free)`,
  );
}

/** Bytes that are free for us on the disk of a directory. */
export function freeBytes(dir: string): number {
  const { bavail, bsize } = statfsSync(dir);
  return bavail * bsize;
}

/** Makes the reserve where there is none, if there is plenty of room. Whatever keeps us from it does no harm now. */
export function keepReserve(dir: string, owner: Ownership): void {
  const path = reservePath(dir);
  if (existsSync(path) || freeBytes(dir) < RESERVE * PLENTY) return;
  try {
    const fd = openSync(path, 'wx');
    let written = 0;
    try {
      owner.give(fd);
      written = writeSync(fd, Buffer.alloc(RESERVE));
    } finally {
      closeSync(fd);
      if (written < RESERVE) rmSync(path);
    }
  } catch {
    // Another process was faster, or the disk is full just now.
  }
}

/** Before something is deleted: gives up the reserve if it is needed. Throws NO_SPACE when even that is too little. */
export function makeRoomToDelete(dir: string): void {
  if (freeBytes(dir) < RESERVE) rmSync(reservePath(dir), { force: true });
  if (freeBytes(dir) >= LEAST) return;
  throw new StoreError(
    'NO_SPACE',
    `no space left for the store in ${dir}, and deleting takes some at first: free ${RESERVE >> 20} MiB on that disk`,
  );
}

/** How many rows may be deleted in one transaction, of at most so many: LMDB must not run out of room in it. */
export function rowsAtOnce(dir: string, most: number): number {
  const rows = Math.floor((freeBytes(dir) - LEAST) / BYTES_A_ROW);
  return Math.max(LEAST_ROWS, Math.min(most, rows));
}

function reservePath(dir: string): string {
  return join(dir, 'reserve');
}
