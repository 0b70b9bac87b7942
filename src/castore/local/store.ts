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
  readonly #fills: boolean;
  #writer: LocalWriter | undefined;

  private constructor(env: Environment, fills: boolean) {
    this.env = env;
    this.#fills = fills;
    this.reader = new LocalReader(env);
  }

  /** Opens the store in a directory; `create` makes one of that kind where there is none. */
  static open(dir: string, create?: StoreKind): LocalStore {
    return new LocalStore(Environment.open(dir, create), false);
  }

  /** Opens a cache, to write what comes from elsewhere and can come again. Makes one where there is none. */
  static openToFill(dir: string): LocalStore {
    return new LocalStore(Environment.open(dir, 'cache'), true);
  }

  /** For acknowledged writes. Throws FAILED_PRECONDITION when this is a cache, which may evict. */
  get writer(): LocalWriter {
    if (this.env.kind !== 'store' && !this.#fills) {
      throw new StoreError('FAILED_PRECONDITION', `${this.env.dir} is a cache; put into a store instead`);
    }
    this.#writer ??= new LocalWriter(this.env);
    return this.#writer;
  }

  async close(): Promise<void> {
    this.#writer?.close();
    this.reader.close();
    await this.env.close();
  }
}
