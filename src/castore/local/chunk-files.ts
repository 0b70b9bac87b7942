import {
  closeSync,
  existsSync,
  fdatasyncSync,
  fsyncSync,
  openSync,
  readdirSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { damaged, StoreError, systemCode } from '../../util/errors.ts';
import { unlinkIfThere } from '../../util/system/file-lock.ts';
import { libc, syncFileSystem } from '../../util/system/libc.ts';
import { Ownership } from '../../util/system/ownership.ts';

const SYNC_FILE_RANGE_WRITE = 2;
/** Up to this many files are synced one by one; beyond it the whole file system is, at once. */
const SYNC_EACH_LIMIT = 8;
const FOLDER = /^[0-9a-f]$/;

/**
 * The files of larger chunks: `chunks/a/b/<digest in hex>.<suffix>`. The suffix, the tag of the writer's
 * session and a count in four digits, tells the files of one chunk apart; a file that no row names does not
 * exist. There are no more folders than this because ext4 takes a millisecond to make one.
 */
export class ChunkFiles {
  readonly #dir: string;
  readonly #owner: Ownership;
  #written = 0;

  constructor(storeDir: string) {
    this.#dir = join(storeDir, 'chunks');
    this.#owner = new Ownership(storeDir);
  }

  path(hex: string, suffix: string): string {
    return `${this.#dir}/${hex[0]}/${hex[1]}/${hex}.${suffix}`;
  }

  /**
   * Writes a new file, not yet synced, and gives its suffix, which begins with the tag of the writer's session.
   * Throws NO_SPACE and leaves nothing behind. `syncedSoon`: the disk begins now, and not when a sync waits for it.
   */
  write(hex: string, bytes: Uint8Array, tag: string, syncedSoon: boolean): string {
    const suffix = tag + (this.#written++ & 0xffff).toString(16).padStart(4, '0');
    const path = this.path(hex, suffix);
    const fd = this.#create(path);
    // This session has written the same chunk at the same count before, 65 536 files ago.
    if (fd === undefined) return this.write(hex, bytes, tag, syncedSoon);
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at);
      if (syncedSoon) libc.sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    } catch (error) {
      unlinkSync(path);
      throw noSpace(error, this.#dir);
    } finally {
      closeSync(fd);
    }
    return suffix;
  }

  /** Makes a new file; `undefined` when there is one. */
  #create(path: string): number | undefined {
    const make = () => {
      const fd = openSync(path, 'wx', 0o444);
      this.#owner.give(fd);
      return fd;
    };
    try {
      return make();
    } catch (error) {
      if (systemCode(error) === 'EEXIST') return undefined;
      if (systemCode(error) !== 'ENOENT') throw noSpace(error, this.#dir);
    }
    // Contents without a database would be in the way of whoever begins anew.
    if (!existsSync(this.#dir)) throw damaged(`${dirname(this.#dir)} has been deleted`);
    try {
      this.#owner.makeDirectory(dirname(path));
      return make();
    } catch (error) {
      throw noSpace(error, this.#dir);
    }
  }

  remove(hex: string, suffix: string): void {
    unlinkIfThere(this.path(hex, suffix));
  }

  /** Puts these files, and their names, on disk. */
  async sync(paths: readonly string[]): Promise<void> {
    if (paths.length === 0) return;
    if (paths.length > SYNC_EACH_LIMIT) {
      const fd = openSync(this.#dir, 'r');
      try {
        await syncFileSystem(fd);
      } finally {
        closeSync(fd);
      }
      return;
    }
    for (const path of paths) syncPath(path, fdatasyncSync);
    const folders = paths.flatMap((path) => [dirname(path), dirname(dirname(path)), this.#dir]);
    for (const folder of new Set(folders)) syncPath(folder, fsyncSync);
  }
}

/** `chunks/a/b`, as they are there. What else lies between them is somebody else's. */
export function* folders(chunks: string): Generator<string> {
  const within = (dir: string) =>
    readdirSync(dir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && FOLDER.test(entry.name))
      .map(({ name }) => join(dir, name));
  for (const first of within(chunks)) yield* within(first);
}

/** Puts one file or folder on disk. */
export function syncPath(path: string, sync: (fd: number) => void): void {
  const fd = openSync(path, 'r');
  try {
    sync(fd);
  } finally {
    closeSync(fd);
  }
}

function noSpace(error: unknown, dir: string): unknown {
  if (systemCode(error) !== 'ENOSPC' && systemCode(error) !== 'EDQUOT') return error;
  return new StoreError('NO_SPACE', `no space left for the store in ${dir}`, { cause: error });
}
