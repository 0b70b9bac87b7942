import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { messageOf, StoreError, systemCode } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { makeLocked, readLocked, unlinkIfThere } from '../../util/system/file-lock.ts';
import type { Environment } from './environment.ts';

/** A pin takes so many bytes: a store path's hash. Zeros are none. */
const PIN_LENGTH = 20;
/** Room for pins that the file has from the beginning, so that a full disk does not matter. */
const FIRST_PINS = 1 << 15;
const NONE = new Uint8Array(PIN_LENGTH);

/**
 * The store paths that a mount shows to the kernel, which keeps them for as long as it likes: a locked file
 * `pins/<id>` of slots. A pin is a write into the page cache, seen by a collector in another process at once;
 * all go with the process that holds the lock.
 *
 * Who pins a path then looks, past every snapshot, whether its path info is still there: see `collectGarbage`.
 */
export class PinFile {
  readonly path: string;
  readonly #fd: number;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  static create(env: Environment): PinFile {
    const dir = join(env.dir, 'pins');
    env.owner.makeDirectory(dir);
    for (let attempt = 0; attempt < 100; attempt++) {
      const path = join(dir, `${process.pid}-${randomBytes(6).toString('hex')}`);
      const fd = makeLocked(path, env.owner);
      if (fd === undefined) continue;
      makeRoom(fd, path);
      return new PinFile(path, fd);
    }
    throw new StoreError('UNAVAILABLE', `cannot take a lock in ${dir}; does its file system support flock?`);
  }

  close(): void {
    unlinkIfThere(this.path);
    closeSync(this.#fd);
  }
}

function makeRoom(fd: number, path: string): void {
  const length = PIN_LENGTH * FIRST_PINS;
  try {
    for (let at = 0; at < length; ) at += writeSync(fd, new Uint8Array(length - at));
  } catch (error) {
    if (systemCode(error) !== 'ENOSPC' && systemCode(error) !== 'EDQUOT') throw error;
    // Everything is read all the same; a pin that finds no room later says so.
    log.warn('the disk is full: what is looked up in this mount may be collected while it is in use', {
      path,
    });
    ftruncateSync(fd, length);
  }
}

/** Writes the pins of a mount; each of its threads has one. */
export class PinWriter {
  readonly #fd: number;
  #hasFailed = false;

  constructor(path: string) {
    this.#fd = openSync(path, 'r+');
  }

  pin(slot: number, hash: Uint8Array): void {
    try {
      writeSync(this.#fd, hash, 0, PIN_LENGTH, slot * PIN_LENGTH);
    } catch (error) {
      if (this.#hasFailed) return;
      this.#hasFailed = true;
      log.error('cannot pin store paths: they may be collected while they are in use', {
        error: messageOf(error),
      });
    }
  }

  unpin(slot: number): void {
    this.pin(slot, NONE);
  }
}

/** The hashes of store paths that running mounts have pinned. */
export function* pinnedPaths(
  env: Environment,
): Generator<{ readonly hash: Uint8Array; readonly pid: string }> {
  const dir = join(env.dir, 'pins');
  if (!existsSync(dir)) return;
  for (const name of readdirSync(dir)) {
    const pins = readLocked(join(dir, name), (fd) => readFileSync(fd));
    for (let at = 0; pins && at + PIN_LENGTH <= pins.length; at += PIN_LENGTH) {
      const hash = pins.subarray(at, at + PIN_LENGTH);
      if (!hash.equals(NONE)) yield { hash: Uint8Array.from(hash), pid: name.slice(0, name.indexOf('-')) };
    }
  }
}
