import { readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { reasonOf, StoreError, systemCode } from '../../util/errors.ts';
import { makeDirectory } from '../../util/system/make-directory.ts';
import { writeFailure, writeWholeFile } from '../../util/system/whole-file.ts';
import type { CacheTargetFiles } from './binary-cache-target.ts';

/** A binary cache in a folder. What has been written is on disk. */
export class CacheFolder implements CacheTargetFiles {
  readonly address: string;
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
    this.address = dir;
  }

  async read(name: string): Promise<Uint8Array | undefined> {
    const path = join(this.#dir, name);
    try {
      return readFileSync(path);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw new StoreError('FAILED_PRECONDITION', `cannot read ${path}: ${reasonOf(error)}`, {
        cause: error,
      });
    }
  }

  async has(name: string, length: bigint): Promise<boolean> {
    const present = statSync(join(this.#dir, name), { throwIfNoEntry: false });
    return present !== undefined && BigInt(present.size) === length;
  }

  async write(name: string, _length: bigint, make: () => AsyncIterable<Uint8Array>): Promise<void> {
    const path = join(this.#dir, name);
    try {
      makeDirectory(dirname(path));
    } catch (error) {
      throw writeFailure(dirname(path), error);
    }
    await writeWholeFile(path, make());
  }

  async close(): Promise<void> {}
}
