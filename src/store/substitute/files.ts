import { constants } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { open, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { reasonOf, StoreError, systemCode } from '../../util/errors.ts';

/** The files of a binary cache, wherever they are. */
export interface CacheFiles {
  /** Where they are, for people. */
  readonly address: string;

  /**
   * The contents of a file, by its path or, where the narinfo gives one, its address; `undefined` when there is
   * none. `size` is its length in bytes if that is known. What is given has been fetched without a flaw, which
   * says nothing of whether it is right. Throws UNAVAILABLE when it cannot be had now.
   */
  read(path: string, options: FileOptions): Promise<AsyncIterable<Uint8Array> | undefined>;

  /** Throws when there can be no cache here. */
  check(): Promise<void>;

  close(): Promise<void>;
}

export interface FileOptions {
  readonly size?: bigint | undefined;
  readonly signal: AbortSignal;
}

const PART_LENGTH = 256 * 1024;
const ABSENT = ['ENOENT', 'ENOTDIR'];

/** The files of a binary cache in a directory. */
export class LocalCacheFiles implements CacheFiles {
  readonly address: string;
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
    this.address = `nix+file://${dir}`;
  }

  async read(path: string, { signal }: FileOptions): Promise<AsyncIterable<Uint8Array> | undefined> {
    try {
      const file = await openWithin(this.#dir, path);
      return file.createReadStream({ highWaterMark: PART_LENGTH, signal });
    } catch (error) {
      if (ABSENT.includes(systemCode(error) ?? '')) return undefined;
      throw new StoreError(
        'UNAVAILABLE',
        `cannot read ${quote(path)} of ${this.address}: ${reasonOf(error)}`,
        {
          cause: error,
        },
      );
    }
  }

  async check(): Promise<void> {
    const found = await stat(this.#dir).catch(() => undefined);
    if (!found?.isDirectory()) throw new StoreError('FAILED_PRECONDITION', `${this.#dir} is no directory`);
  }

  async close(): Promise<void> {}
}

/**
 * Opens a file that is one, in this directory also by way of links: a pipe would be waited for, a device does
 * who knows what, and what lies outside is nobody's business.
 */
async function openWithin(dir: string, path: string): Promise<FileHandle> {
  const [top, found] = await Promise.all([realpath(dir), realpath(join(dir, path))]);
  if (!found.startsWith(`${top}/`)) throw new Error('it leads out of the cache');
  if (!(await stat(found)).isFile()) throw new Error('it is not a file');
  return open(found, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 200));
}
