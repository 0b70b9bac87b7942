import type { S3Location, S3ObjectStore } from '../../castore/objects/s3.ts';
import { mapAhead } from '../../util/async/iterables.ts';
import type { Patience } from '../../util/async/retry.ts';
import { parseContentEncoding, undoEncodings } from '../../util/compression/content-encoding.ts';
import { StoreError } from '../../util/errors.ts';
import type { CacheFiles, FileOptions } from './files.ts';

/** A file is read in parts of this length in bytes, so many at once; each is asked for again by itself. */
const PART_LENGTH = 8 << 20;
const PARTS_AT_ONCE = 2;

/** The files of a binary cache in a bucket of S3, as Nix lays it out. */
export class S3CacheFiles implements CacheFiles {
  readonly address: string;
  readonly #location: S3Location;
  readonly #patience: Patience;
  #opened: Promise<S3ObjectStore> | undefined;

  constructor(location: S3Location, patience: Patience) {
    this.address = location.address;
    this.#location = location;
    this.#patience = patience;
  }

  async #objects(): Promise<S3ObjectStore> {
    // Loaded when it is needed.
    this.#opened ??= import('../../castore/objects/s3.ts').then(({ S3ObjectStore }) =>
      S3ObjectStore.open(this.#location, this.#patience),
    );
    return this.#opened;
  }

  async read(path: string, { signal }: FileOptions): Promise<AsyncIterable<Uint8Array> | undefined> {
    if (/^[a-z][a-z0-9+.-]*:/i.test(path) || path.split('/').includes('..'))
      throw new StoreError(
        'PERMISSION_DENIED',
        `${this.address} refers to ${JSON.stringify(path.slice(0, 200))}, where it must not lead`,
      );
    const objects = await this.#objects();
    const first = await objects.part(path, { start: 0, length: PART_LENGTH }, signal);
    if (!first) return undefined;
    // One by one: the server may say any length.
    const starts = function* () {
      for (let start = PART_LENGTH; start < first.total; start += PART_LENGTH) yield start;
    };
    const address = this.address;
    const parts = async function* () {
      yield first.bytes;
      yield* mapAhead(starts(), PARTS_AT_ONCE, async (start) => {
        const part = await objects.part(path, { start, length: PART_LENGTH, tag: first.tag }, signal);
        if (!part)
          throw new StoreError('UNAVAILABLE', `${address}: ${path} was removed while it was being read`);
        return part.bytes;
      });
    };
    return undoEncodings(parseContentEncoding(first.encoding), parts());
  }

  async check(): Promise<void> {}

  async close(): Promise<void> {
    await (await this.#opened?.catch(() => undefined))?.close();
  }
}
