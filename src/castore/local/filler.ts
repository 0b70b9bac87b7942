import { setTimeout as delay } from 'node:timers/promises';
import { toHex } from '../../util/bytes.ts';
import { messageOf, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { Chunk } from '../blob/service.ts';
import type { Digest } from '../digest.ts';
import { ChunkFiles } from './chunk-files.ts';
import type { Environment } from './environment.ts';
import { BOOT_TAG } from './environment.ts';
import { requireRoom } from './reserve.ts';
import { RowCheck } from './row-check.ts';
import { directoryRow, fileOf, fileRow, inlineRow, manifestRow } from './rows.ts';
import { Session } from './session.ts';
import type { Table } from './table.ts';
import { INLINE_LIMIT } from './writer.ts';

/** Rows gather for so long before they are committed, in milliseconds, or up to so many bytes. */
const BATCH_MS = 50;
const BATCH_BYTES = 4 << 20;
/** How long closing takes at most, in milliseconds: what is not kept can be fetched again. */
const CLOSE_MS = 2000;

interface Row {
  readonly table: Table;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/**
 * Writes of a cache: content that has been verified in memory and is answered from there. Nobody waits for
 * them, files are not synced, and a failure (a full disk) only means that it will be fetched again. Every
 * method resolves when the row is visible to all, or has failed.
 */
export class CacheFiller {
  readonly #env: Environment;
  readonly #files: ChunkFiles;
  readonly #check: RowCheck;
  readonly #session: Session;
  #batch: { rows: Row[]; bytes: number; done: PromiseWithResolvers<void> } | undefined;
  #committing: Promise<void> = Promise.resolve();
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
    this.#check = new RowCheck(env);
    this.#session = Session.begin(env);
  }

  /** Gives the row at once as well: with it, the chunk can be read before the row is visible. */
  chunk(digest: Digest, bytes: Uint8Array): { readonly row: Uint8Array; readonly kept: Promise<void> } {
    this.#env.useListener?.added(digest.bytes, bytes.length);
    const row = this.#chunkRow(digest, bytes);
    if (row) return { row, kept: this.row(this.#env.chunks, digest.bytes, row) };
    return { row: inlineRow(this.#session.epoch, bytes), kept: Promise.resolve() };
  }

  /** Writes the file of a larger chunk; `undefined` when that fails. */
  #chunkRow(digest: Digest, bytes: Uint8Array): Uint8Array | undefined {
    const { epoch, tag } = this.#session;
    if (bytes.length <= INLINE_LIMIT) return inlineRow(epoch, bytes);
    try {
      requireRoom(this.#env.dir, bytes.length);
      const suffix = this.#files.write(digest.hex, bytes, tag, false);
      return fileRow(epoch, bytes.length, suffix, BOOT_TAG);
    } catch (error) {
      this.#complain(error);
      return undefined;
    }
  }

  manifest(digest: Digest, chunks: readonly Chunk[]): Promise<void> {
    const row = manifestRow(this.#session.epoch, chunks);
    this.#env.useListener?.added(digest.bytes, row.length);
    return this.row(this.#env.manifests, digest.bytes, row);
  }

  directory(digest: Digest, encoded: Uint8Array): Promise<void> {
    this.#env.useListener?.added(digest.bytes, encoded.length);
    return this.row(this.#env.directories, digest.bytes, directoryRow(this.#session.epoch, encoded));
  }

  /** Puts a row, or with an empty value takes it away. */
  row(table: Table, key: Uint8Array, value: Uint8Array): Promise<void> {
    this.#batch ??= this.#newBatch();
    const batch = this.#batch;
    batch.rows.push({ table, key, value });
    batch.bytes += value.length;
    if (batch.bytes >= BATCH_BYTES) this.#close(batch);
    return batch.done.promise;
  }

  #newBatch() {
    const batch = { rows: [] as Row[], bytes: 0, done: Promise.withResolvers<void>() };
    setTimeout(() => this.#close(batch), BATCH_MS);
    return batch;
  }

  #close(batch: { rows: Row[]; bytes: number; done: PromiseWithResolvers<void> }): void {
    if (this.#batch !== batch) return;
    this.#batch = undefined;
    this.#committing = this.#committing.then(async () => {
      try {
        requireRoom(this.#env.dir, batch.bytes);
        await Promise.all(batch.rows.map((row) => this.#commit(row)));
      } catch (error) {
        this.#complain(error);
      }
      batch.done.resolve();
    });
  }

  async #commit({ table, key, value }: Row): Promise<void> {
    if (value.length === 0) await this.#env.committed(table.remove(key));
    else if (table === this.#env.chunks && fileOf(key, value)) await this.#commitFile(key, value);
    else await this.#env.committed(table.put(key, value));
    if (table === this.#env.manifests && this.#env.rotten.has(key)) this.#env.rotten.forget(key);
  }

  /** Another mount may have fetched the same chunk: of two files one goes, theirs if it is damaged. */
  async #commitFile(key: Uint8Array, ours: Uint8Array): Promise<void> {
    const { chunks, rotten } = this.#env;
    if (await this.#env.committed(chunks.putNew(key, ours))) return;
    this.#env.refresh();
    const theirs = chunks.get(key);
    const isKept = theirs !== undefined && this.#check.isSound(chunks, key, theirs);
    if (!isKept) {
      await this.#env.committed(chunks.put(key, ours));
      rotten.forget(key);
    }
    const loser = isKept ? ours : theirs;
    const file = loser && fileOf(key, loser);
    if (file) this.#files.remove(toHex(key), file.suffix);
  }

  /** Once is enough for a log: a full disk would say it for every read. */
  #complain(error: unknown): void {
    if (!this.#complained) log.warn('cannot keep what was fetched', { error: messageOf(error) });
    this.#complained = true;
  }

  /** Commits what is under way, unless another writer keeps us from it, and ends the session. */
  async close(): Promise<void> {
    if (this.#batch) this.#close(this.#batch);
    await Promise.race([this.#committing, delay(CLOSE_MS, undefined, { ref: false })]);
    this.#session.end();
  }
}
