import { asBuffer } from '../../util/bytes.ts';
import { messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { Chunk } from '../blob/service.ts';
import type { Digest } from '../digest.ts';
import { ChunkFiles } from './chunk-files.ts';
import type { Environment, Table } from './environment.ts';
import { BOOT_TAG } from './environment.ts';
import { directoryRow, fileRow, inlineRow, manifestRow } from './rows.ts';
import { Session } from './session.ts';
import { INLINE_LIMIT } from './writer.ts';

/**
 * Writes of a cache: content that has been verified in memory and is answered from there. Nobody waits for
 * them, nothing is synced, and a failure (a full disk) only means that it will be fetched again. Every
 * method resolves when the row is visible to all, or has failed.
 */
export class CacheFiller {
  readonly #env: Environment;
  readonly #files: ChunkFiles;
  readonly #session: Session;
  #complained = false;

  constructor(env: Environment) {
    if (env.kind !== 'cache') {
      throw new StoreError(
        'FAILED_PRECONDITION',
        `${env.dir} is not a cache; name another directory for one`,
      );
    }
    this.#env = env;
    this.#files = new ChunkFiles(env.dir);
    this.#session = Session.begin(env);
  }

  chunk(digest: Digest, bytes: Uint8Array): Promise<void> {
    return this.#attempt(async () => {
      const { epoch } = this.#session;
      if (bytes.length <= INLINE_LIMIT) {
        await this.#put(this.#env.chunks, digest.bytes, inlineRow(epoch, bytes));
        return;
      }
      const suffix = this.#files.write(digest.hex, bytes);
      try {
        await this.#put(this.#env.chunks, digest.bytes, fileRow(epoch, bytes.length, suffix, BOOT_TAG));
      } catch (error) {
        this.#files.remove(digest.hex, suffix);
        throw error;
      }
    });
  }

  manifest(digest: Digest, chunks: readonly Chunk[]): Promise<void> {
    return this.row(this.#env.manifests, digest.bytes, manifestRow(this.#session.epoch, chunks));
  }

  directory(digest: Digest, encoded: Uint8Array): Promise<void> {
    return this.row(this.#env.directories, digest.bytes, directoryRow(this.#session.epoch, encoded));
  }

  row(table: Table, key: Uint8Array, value: Uint8Array): Promise<void> {
    return this.#attempt(() => this.#put(table, key, value));
  }

  async #put(table: Table, key: Uint8Array, value: Uint8Array): Promise<void> {
    await this.#env.committed(table.put(asBuffer(key), value));
  }

  async #attempt(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      // Once is enough for a log: a full disk would say it for every read.
      if (!this.#complained) log.warn('cannot keep what was fetched', { error: messageOf(error) });
      this.#complained = true;
    }
  }

  close(): void {
    this.#session.end();
  }
}
