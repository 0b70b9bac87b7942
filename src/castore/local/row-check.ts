import { statSync } from 'node:fs';
import { toHex } from '../../util/bytes.ts';
import { StoreError } from '../../util/errors.ts';
import { isDigestOf } from '../digest.ts';
import { ChunkFiles } from './chunk-files.ts';
import { DigestMap } from './digest-map.ts';
import type { Environment } from './environment.ts';
import { EPOCH_LENGTH, parseChunkRow, parseManifestRow } from './rows.ts';
import type { Table } from './table.ts';

/** A chunk is not looked at again for so long, in milliseconds. */
const RECENT_MS = 5000;
const MAX_RECENT = 1 << 18;

/**
 * Looks whether a row may be relied on by whoever writes: it is what its key says, and the file that it names is there,
 * has its length, and has not been found rotten. The file's contents are read by those who read them anyway, and by fsck.
 */
export class RowCheck {
  readonly #env: Environment;
  readonly #files: ChunkFiles;
  /** Chunks that were looked at just now: many ask for the same large blob at once. */
  #recent = new DigestMap();
  #until = 0;

  constructor(env: Environment) {
    this.#env = env;
    this.#files = new ChunkFiles(env.dir);
  }

  /** For a row of directories, chunk lists, outboards or chunks. */
  isSound(table: Table, key: Uint8Array, row: Buffer): boolean {
    if (row.length < EPOCH_LENGTH) return false;
    if (table === this.#env.directories) return isDigestOf(key, row.subarray(EPOCH_LENGTH));
    try {
      if (table === this.#env.outboards) return parseManifestRow(row, key) !== undefined;
      if (this.#env.rotten.has(key)) return false;
      if (table === this.#env.manifests) return parseManifestRow(row, key) !== undefined;
      return this.#isChunk(key, row);
    } catch (error) {
      if (error instanceof StoreError) return false;
      throw error;
    }
  }

  #isChunk(key: Uint8Array, row: Buffer): boolean {
    const now = performance.now();
    if (now > this.#until || this.#recent.size >= MAX_RECENT) {
      this.#until = now + RECENT_MS;
      this.#recent = new DigestMap();
    }
    if (this.#recent.has(key)) return true;
    const chunk = parseChunkRow(row, key);
    const isSound =
      chunk.kind === 'inline' ? isDigestOf(key, chunk.bytes) : this.#length(key, chunk.suffix) === chunk.size;
    if (isSound) this.#recent.set(key);
    return isSound;
  }

  /** The length of a chunk's file, if it is there. */
  #length(key: Uint8Array, suffix: string): number | undefined {
    return statSync(this.#files.path(toHex(key), suffix), { throwIfNoEntry: false })?.size;
  }
}
