import { randomBytes } from 'node:crypto';
import { closeSync, fstatSync, openSync, readdirSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { StoreError, systemCode } from '../../util/errors.ts';
import { libc } from '../../util/libc.ts';
import type { Environment } from './environment.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;

/**
 * A writer's presence in the store: a locked file `sessions/<id>` that holds the epoch at which the writer
 * began. The collector spares every row of that epoch or later. The kernel frees the lock when the
 * process dies, however that happens.
 */
export class Session {
  /** Rows that this writer writes or relies on carry at least this epoch. */
  readonly epoch: number;
  readonly #fd: number;
  readonly #path: string;

  private constructor(fd: number, path: string, epoch: number) {
    this.#fd = fd;
    this.#path = path;
    this.epoch = epoch;
  }

  static begin(env: Environment): Session {
    const dir = join(env.dir, 'sessions');
    removeDead(dir);
    for (let attempt = 0; attempt < 100; attempt++) {
      const path = join(dir, `${process.pid}-${randomBytes(6).toString('hex')}`);
      const fd = openSync(path, 'wx');
      // Somebody clearing up may have been faster: then this file is gone or locked, and another is made.
      if (libc.flock(fd, LOCK_EX | LOCK_NB) === 0 && fstatSync(fd).nlink > 0) {
        // The epoch is read after the lock is taken: a collector that does not see this file yet has
        // already counted its epoch up.
        const epoch = env.epoch();
        writeSync(fd, `${epoch}\n`);
        return new Session(fd, path, epoch);
      }
      closeSync(fd);
    }
    throw new StoreError('UNAVAILABLE', `cannot take a lock in ${dir}; does its file system support flock?`);
  }

  end(): void {
    unlinkSync(this.#path);
    closeSync(this.#fd);
  }
}

/** Removes the files of writers that are no more. */
function removeDead(dir: string): void {
  for (const name of readdirSync(dir)) {
    const path = join(dir, name);
    try {
      const fd = openSync(path, 'r');
      if (libc.flock(fd, LOCK_EX | LOCK_NB) === 0) unlinkSync(path);
      closeSync(fd);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
    }
  }
}
