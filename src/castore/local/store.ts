import { StoreError } from '../../util/errors.ts';
import type { StoreKind } from './environment.ts';
import { Environment } from './environment.ts';
import { LocalReader } from './reader.ts';
import { LocalWriter } from './writer.ts';

/**
 * The local store: one directory shared by any number of processes. An LMDB environment holds directories,
 * chunk lists, small chunks and the tables of the layers above; larger chunks are files.
 */
export class LocalStore {
  readonly env: Environment;
  readonly reader: LocalReader;
  /** Whether callers may rely on an answer that something is here: a store opened for reading promises nothing. */
  readonly isWritable: boolean;
  readonly #fills: boolean;
  readonly #serves: boolean;
  #writer: LocalWriter | undefined;

  private constructor(env: Environment, { isWritable = false, fills = false, serves = false } = {}) {
    this.env = env;
    this.#serves = serves;
    this.isWritable = isWritable;
    this.#fills = fills;
    this.reader = new LocalReader(env);
  }

  /**
   * Opens the store in a directory; `create` makes one of that kind where there is none. `serves` is for a
   * process that writes for others as long as it lives.
   */
  static open(dir: string, create?: StoreKind, serves = false): LocalStore {
    const env = Environment.open(dir, create);
    return new LocalStore(env, { isWritable: create === 'store' && env.kind === 'store', serves });
  }

  /** Opens the store in a directory to read it. */
  static openToRead(dir: string): LocalStore {
    return new LocalStore(Environment.openToRead(dir));
  }

  /** Opens a cache, to write what comes from elsewhere and can come again. Makes one where there is none. */
  static openToFill(dir: string): LocalStore {
    const env = Environment.open(dir, 'cache');
    return new LocalStore(env, { isWritable: env.kind === 'store', fills: true, serves: true });
  }

  /** For acknowledged writes. Throws FAILED_PRECONDITION when this is a cache, which may evict. */
  get writer(): LocalWriter {
    if (this.env.kind !== 'store' && !this.#fills) {
      throw new StoreError('FAILED_PRECONDITION', `${this.env.dir} is a cache; put into a store instead`);
    }
    this.#writer ??= new LocalWriter(this.env, this.#serves);
    return this.#writer;
  }

  /**
   * Answers somebody who may rely on the answer: `note` sees to it that it stays true. On a disk that is full nothing can
   * be noted, and yet everything is read, as in a store that is only read: what is relied on is noted once more before
   * it is acknowledged.
   */
  async noting<T>(note: () => Promise<T>, otherwise: () => T): Promise<T> {
    if (!this.isWritable) return otherwise();
    try {
      return await note();
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'NO_SPACE') throw error;
      return otherwise();
    }
  }

  async close(): Promise<void> {
    this.#writer?.close();
    this.reader.close();
    await this.env.close();
  }
}
