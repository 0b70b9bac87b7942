import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { LRUCache } from 'lru-cache';
import { asBuffer, latin1, toHex } from '../../util/bytes.ts';
import { systemCode } from '../../util/errors.ts';
import type { Chunk } from '../blob/service.ts';
import { Digest } from '../digest.ts';
import { ChunkFiles } from './chunk-files.ts';
import { BOOT_TAG, type Environment } from './environment.ts';
import type { ChunkRow } from './rows.ts';
import { EPOCH_LENGTH, parseChunkRow, parseManifestRow } from './rows.ts';
import type { Table } from './table.ts';

const OPEN_FILES = 128;

/**
 * Synchronous reads from a local store: what the mount's kernel-facing thread works with. Reads come from
 * one snapshot until `refresh`; a miss is only believed after one.
 */
export class LocalReader {
  readonly #env: Environment;
  readonly #files: ChunkFiles;
  /** Chunk files by digest, kept open: content under a digest never changes. */
  readonly #open = new LRUCache<string, { fd: number; size: number }>({
    max: OPEN_FILES,
    dispose: ({ fd }) => closeSync(fd),
  });

  constructor(env: Environment) {
    this.#env = env;
    this.#files = new ChunkFiles(env.dir);
  }

  refresh(): void {
    this.#env.refresh();
  }

  /** The encoding of a directory, as a copy. */
  directory(digest: Uint8Array): Uint8Array | undefined {
    return this.#lookUp(this.#env.directories, digest, (row) => Uint8Array.from(row.subarray(EPOCH_LENGTH)));
  }

  /** The chunk list of a blob of several chunks. Throws DATA_LOSS for a damaged row. */
  manifest(digest: Uint8Array): Chunk[] | undefined {
    return this.#lookUp(this.#env.manifests, digest, (row) => [...parseManifestRow(row, digest)]);
  }

  /** The chunk list of a blob, one by one: a whole list takes a thousandth of the size of its blob. */
  manifestChunks(digest: Uint8Array): Iterable<Chunk> | undefined {
    return this.#lookUp(this.#env.manifests, digest, (row) => parseManifestRow(Buffer.from(row), digest));
  }

  /** Whether a chunk can be read: its row is there, and the file that it names, whole as far as that is in doubt. */
  hasChunk(digest: Uint8Array): boolean {
    this.refresh();
    const found = this.#lookUp(this.#env.chunks, digest, (bytes) => parseChunkRow(bytes, digest));
    if (found?.kind !== 'file') return found !== undefined;
    // Not by the files that are kept open: others may not have this one.
    const path = this.#files.path(toHex(digest), found.suffix);
    if (found.boot === 0 || found.boot === BOOT_TAG) return existsSync(path);
    const key = latin1(digest);
    this.#open.delete(key);
    return this.#openFile(key, digest, found);
  }

  /** Length of a chunk in bytes; `undefined` when it is not there. */
  chunkSize(digest: Uint8Array): number | undefined {
    const open = this.#open.get(latin1(digest));
    if (open) return open.size;
    return this.#lookUp(this.#env.chunks, digest, (bytes) => {
      const row = parseChunkRow(bytes, digest);
      return row.kind === 'inline' ? row.bytes.length : row.size;
    });
  }

  /**
   * Copies up to `length` bytes of a chunk from `offset` into `out` at `at`. Gives the number of bytes, fewer
   * only at the chunk's end; `undefined` when the chunk is not there. `fresh` is its row, where that may not be
   * visible yet.
   */
  readChunk(
    digest: Uint8Array,
    offset: number,
    length: number,
    out: Uint8Array,
    at: number,
    fresh?: Uint8Array,
  ): number | undefined {
    const key = latin1(digest);
    // Twice: a file that has gone since the look-up may lie elsewhere by now.
    for (let attempt = 0; attempt < 2; attempt++) {
      const open = this.#open.get(key);
      if (open) return readSync(open.fd, out, at, Math.min(length, out.length - at), offset);
      const read = (bytes: Uint8Array) => {
        const row = parseChunkRow(bytes, digest);
        if (row.kind === 'file') return this.#openFile(key, digest, row) ? 'opened' : 'gone';
        const end = Math.min(offset + length, row.bytes.length);
        return offset >= end ? 0 : asBuffer(row.bytes).copy(out, at, offset, end);
      };
      const found = fresh && attempt === 0 ? read(fresh) : this.#lookUp(this.#env.chunks, digest, read);
      if (typeof found !== 'string') return found;
      if (found === 'opened') attempt--;
      else this.refresh();
    }
    return undefined;
  }

  #openFile(key: string, digest: Uint8Array, row: ChunkRow & { kind: 'file' }): boolean {
    let fd: number;
    try {
      fd = openSync(this.#files.path(toHex(digest), row.suffix), 'r');
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return false;
      throw error;
    }
    if (row.boot !== 0 && row.boot !== BOOT_TAG && !isIntact(fd, row.size, digest)) {
      closeSync(fd);
      return false;
    }
    this.#open.set(key, { fd, size: row.size });
    return true;
  }

  #lookUp<T>(table: Table, digest: Uint8Array, parse: (row: Buffer) => T): T | undefined {
    let row = table.view(digest);
    if (!row) {
      this.refresh();
      row = table.view(digest);
    }
    return row && parse(row);
  }

  close(): void {
    this.#open.clear();
  }
}

/** Whether a file holds what its digest says: asked of a cache fill that a crash may have torn. */
function isIntact(fd: number, size: number, digest: Uint8Array): boolean {
  const bytes = Buffer.allocUnsafe(size);
  return readSync(fd, bytes, 0, size, 0) === size && Digest.hash(bytes).equals(Digest.of(digest));
}
