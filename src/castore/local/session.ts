import { closeSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { StoreError } from '../../util/errors.ts';
import { lazyPackage } from '../../util/lazy.ts';
import { makeLocked, readLocked, unlinkIfThere } from '../../util/system/file-lock.ts';
import { writeFailure } from '../../util/system/whole-file.ts';
import type { Environment } from './environment.ts';

const crypto = lazyPackage<typeof import('node:crypto')>('node:crypto');

const TAG_LENGTH = 4;

/** A writer, as the collector sees it. */
export interface LiveSession {
  readonly epoch: number;
  /** The names of the chunk files that it writes end in this, and four more characters. */
  readonly tag: string;
}

/**
 * A writer's presence in the store: a locked file `sessions/<id>` that holds the epoch at which the writer
 * began. The collector spares every row of that epoch or later, and every file with its tag; see collector.ts.
 */
export class Session implements LiveSession {
  /** Rows that this writer writes or relies on carry at least this epoch. */
  readonly epoch: number;
  readonly tag: string;
  readonly #fd: number;
  readonly #path: string;

  private constructor(fd: number, path: string, epoch: number) {
    this.#fd = fd;
    this.#path = path;
    this.epoch = epoch;
    this.tag = tagOf(path);
  }

  /** Throws NO_SPACE, PERMISSION_DENIED, and UNAVAILABLE where nothing can be locked. */
  static begin(env: Environment): Session {
    const dir = join(env.dir, 'sessions');
    liveSessions(env);
    for (let attempt = 0; attempt < 100; attempt++) {
      const path = join(dir, `${process.pid}-${crypto().randomBytes(6).toString('hex')}`);
      let fd: number | undefined;
      try {
        fd = makeLocked(path, env.owner);
        if (fd === undefined) continue;
        const epoch = env.epoch();
        writeSync(fd, `${epoch}\n`);
        // A collector that has read the file before the epoch stood in it has counted up by now: that shows here.
        if (env.epoch() === epoch) return new Session(fd, path, epoch);
      } catch (error) {
        if (fd !== undefined) remove(fd, path);
        throw writeFailure(`into the store in ${env.dir}`, error);
      }
      remove(fd, path);
    }
    throw new StoreError('UNAVAILABLE', `cannot take a lock in ${dir}; does its file system support flock?`);
  }

  end(): void {
    remove(this.#fd, this.#path);
  }
}

function remove(fd: number, path: string): void {
  unlinkIfThere(path);
  closeSync(fd);
}

/** The writers at work. Files of those that are no more are removed; one that is just beginning is left out. */
export function liveSessions(env: Environment): LiveSession[] {
  const dir = join(env.dir, 'sessions');
  const live: LiveSession[] = [];
  for (const name of readdirSync(dir)) {
    const text = readLocked(join(dir, name), (fd) => readFileSync(fd, 'latin1'));
    if (text?.endsWith('\n')) live.push({ epoch: Number(text), tag: tagOf(name) });
  }
  return live;
}

function tagOf(path: string): string {
  return path.slice(path.lastIndexOf('-') + 1).slice(0, TAG_LENGTH);
}
