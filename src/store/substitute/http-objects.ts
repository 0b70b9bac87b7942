import { Digest } from '../../castore/digest.ts';
import type { ObjectFacts, ObjectStore, StoredObject } from '../../castore/objects/object-store.ts';
import { collect } from '../../util/bytes.ts';
import { damaged, StoreError } from '../../util/errors.ts';
import type { HttpCacheFiles } from './http-files.ts';

const NEVER = new AbortController().signal;

/**
 * Objects of a bucket as any web server gives them: a public bucket, a CDN, a folder with the layout of one. They can be
 * read, not written, and there is no list of them.
 */
export class HttpObjectStore implements ObjectStore {
  readonly address: string;
  readonly isFar = true;
  readonly #files: HttpCacheFiles;

  constructor(files: HttpCacheFiles) {
    this.address = files.address.replace(/^nix/, 'objectstore');
    this.#files = files;
  }

  async get(key: string, limit: number, signal: AbortSignal = NEVER): Promise<StoredObject | undefined> {
    const contents = await this.#files.read(key, { signal });
    if (!contents) return undefined;
    const bytes = await collect(contents, limit);
    if (!bytes) throw damaged(`${this.address}: ${key} has more than ${limit} bytes`);
    // When it was put, nobody asks for who only reads.
    return { bytes, tag: Digest.hash(bytes).hex, modified: 0 };
  }

  facts(key: string, signal: AbortSignal = NEVER): Promise<ObjectFacts | undefined> {
    return this.#files.facts(key, signal);
  }

  async put(): Promise<never> {
    throw this.#readOnly('put');
  }

  list(): never {
    throw this.#readOnly('listed');
  }

  async remove(): Promise<never> {
    throw this.#readOnly('removed');
  }

  #readOnly(what: string): StoreError {
    const others = 'objectstore+s3:// and objectstore+file:///';
    return new StoreError(
      'UNIMPLEMENTED',
      `${this.address}: nothing can be ${what} over plain HTTP; name the bucket itself (${others})`,
    );
  }

  close(): Promise<void> {
    return this.#files.close();
  }
}
