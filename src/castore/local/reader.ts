import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { LRUCache } from 'lru-cache';
import { asBuffer, latin1, toHex } from '../../util/bytes.ts';
import { isAbsence, isDamage } from '../../util/errors.ts';
import type { Chunk } from '../blob/service.ts';
import { type Digest, isDigestOf } from '../digest.ts';
import type { StartAhead } from './ahead/hashed-ahead.ts';
import { HashedAhead } from './ahead/hashed-ahead.ts';
import { ChunkFiles } from './chunk-files.ts';
import type { Environment } from './environment.ts';
import type { ChunkRow } from './rows.ts';
import { EPOCH_LENGTH, parseChunkRow, parseManifestRow } from './rows.ts';
import { SoundChunks } from './sound-chunks.ts';
import type { Table } from './table.ts';
import { readsWhole } from './whole-chunk.ts';

const OPEN_FILES = 128;
const MAX_ROTTEN = 10_000;
const FIRST_BUFFER = 512 << 10;
const NOTHING_HASHED = { key: '', bytes: new Uint8Array() };

/** An open file that has a chunk of so many bytes. */
export interface ChunkFile {
  readonly fd: number;
  readonly size: number;
}

/**
 * Synchronous reads from a local store: what the mount's kernel-facing thread works with. Reads come from
 * one snapshot until `refresh`; a miss is only believed after one.
 */
export class LocalReader {
  readonly #env: Environment;
  readonly #files: ChunkFiles;
  /** Chunk files by digest, kept open: content under a digest never changes. */
  readonly #open = new LRUCache<string, ChunkFile>({
    max: OPEN_FILES,
    dispose: ({ fd }) => closeSync(fd),
  });
  /** What has been hashed since this began: what a disk does to it later is found by fsck. */
  readonly #sound = new SoundChunks();
  readonly #checks: boolean;
  /** Paths of files that are not what their digests say. */
  readonly #rotten = new Set<string>();
  #buffer = Buffer.allocUnsafeSlow(FIRST_BUFFER);
  /** The chunk that was hashed last, while it lies in `#buffer`. */
  #hashed: { readonly key: string; readonly bytes: Uint8Array } = NOTHING_HASHED;
  readonly #ahead: HashedAhead | undefined;

  /**
   * With `checks: false` nothing is hashed, which is for callers who hash all that they read. `startAhead` starts a
   * thread that hashes what is expected to be read.
   */
  constructor(
    env: Environment,
    { checks = true, startAhead }: { checks?: boolean; startAhead?: StartAhead | undefined } = {},
  ) {
    this.#env = env;
    this.#checks = checks;
    this.#ahead = startAhead && new HashedAhead(startAhead);
    this.#files = new ChunkFiles(env.dir);
  }

  refresh(): void {
    this.#env.refresh();
  }

  /** The encoding of a directory, as a copy; `undefined` when it is not there, or not what its digest says. */
  directory(digest: Uint8Array): Uint8Array | undefined {
    this.#env.useListener?.used(digest);
    const bytes = this.#lookUp(this.#env.directories, digest, (row) =>
      Uint8Array.from(row.subarray(EPOCH_LENGTH)),
    );
    return bytes && this.#isSound(digest, bytes) ? bytes : undefined;
  }

  /** The chunk list of a blob of several chunks. Throws DATA_LOSS for a damaged row. */
  manifest(digest: Uint8Array): Chunk[] | undefined {
    this.#env.useListener?.used(digest);
    return this.#lookUp(this.#env.manifests, digest, (row) => [...parseManifestRow(row, digest)]);
  }

  /** The chunk list of a blob, one by one: a whole list takes a thousandth of the size of its blob. */
  manifestChunks(digest: Uint8Array): Iterable<Chunk> | undefined {
    this.#env.useListener?.used(digest);
    return this.#lookUp(this.#env.manifests, digest, (view) => {
      const row = Buffer.from(view);
      const first = parseManifestRow(row, digest);
      // Any number of times, over one copy.
      let next: Generator<Chunk> | undefined = first;
      return {
        [Symbol.iterator]() {
          const chunks = next ?? parseManifestRow(row, digest);
          next = undefined;
          return chunks;
        },
      };
    });
  }

  /** The chunks of a blob's outboard; `undefined` when it has none, or its row is damaged: it can be made again. */
  outboard(digest: Uint8Array): Chunk[] | undefined {
    this.#env.useListener?.used(digest);
    this.#env.outboards.look();
    try {
      return this.#lookUp(this.#env.outboards, digest, (row) => [...parseManifestRow(row, digest)]);
    } catch (error) {
      if (isDamage(error)) return undefined;
      throw error;
    }
  }

  /** Whether a chunk seems to be there: its row is, and so is the file that it names. */
  listsChunk(digest: Uint8Array): boolean {
    this.refresh();
    const row = this.#chunkRow(digest);
    if (row?.kind !== 'file') return row !== undefined;
    const path = this.#files.path(toHex(digest), row.suffix);
    return !this.#rotten.has(path) && existsSync(path);
  }

  /** Whether a chunk can be read, and is what its digest says. */
  hasChunk(digest: Uint8Array): boolean {
    this.refresh();
    // Not by the files that are kept open: others may not have this one.
    this.#open.delete(latin1(digest));
    this.#hashed = NOTHING_HASHED;
    return this.readChunk(digest, 0, 0, this.#buffer, 0) !== undefined;
  }

  /** Whether a chunk that could not be read is there, but not what its digest says. */
  isRotten(digest: Uint8Array): boolean {
    const row = this.#chunkRow(digest);
    return row?.kind === 'file'
      ? this.#rotten.has(this.#files.path(toHex(digest), row.suffix))
      : row !== undefined;
  }

  /** Has nobody who writes rely on a chunk, or a chunk list, that is rotten. */
  noteRotten(digest: Digest): void {
    this.#env.rotten.note(digest);
  }

  #chunkRow(digest: Uint8Array): ChunkRow | undefined {
    return this.#lookUp(this.#env.chunks, digest, (bytes) => parseChunkRow(bytes, digest));
  }

  /** Length of a chunk in bytes; `undefined` when it is not there. */
  chunkSize(digest: Uint8Array): number | undefined {
    const open = this.#open.get(latin1(digest));
    if (open) return open.size;
    const row = this.#chunkRow(digest);
    return row?.kind === 'inline' ? row.bytes.length : row?.size;
  }

  /**
   * Copies up to `length` bytes of a chunk from `offset` into `out` at `at`. Gives the number of bytes, fewer
   * only at the chunk's end; `undefined` when the chunk is not there, or is not what its digest says: all of it is
   * hashed when this reader first reads it. `fresh` is the row of one that was hashed when it came, and may not be
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
    this.#env.useListener?.used(digest);
    const key = latin1(digest);
    if (fresh) this.#sound.add(digest);
    const copied = (bytes: Uint8Array) => {
      const end = Math.min(offset + length, bytes.length);
      return offset >= end ? 0 : asBuffer(bytes).copy(out, at, offset, end);
    };
    // Twice: a file that has gone since the look-up may lie elsewhere by now.
    for (let attempt = 0; attempt < 2; attempt++) {
      if (this.#hashed.key === key) return copied(this.#hashed.bytes);
      const open = this.#open.get(key);
      if (open) return readSync(open.fd, out, at, Math.min(length, out.length - at), offset);
      const read = (bytes: Uint8Array) => {
        const row = parseChunkRow(bytes, digest);
        if (row.kind === 'file') {
          const isAllWanted = offset === 0 && length >= row.size && out.length - at >= row.size;
          // Hashed where it is wanted, so that it need not be copied there.
          return this.#openFile(key, digest, row, isAllWanted ? out.subarray(at, at + row.size) : undefined);
        }
        return this.#isSound(digest, row.bytes) ? copied(row.bytes) : 'gone';
      };
      const found = fresh && attempt === 0 ? read(fresh) : this.#lookUp(this.#env.chunks, digest, read);
      if (typeof found !== 'string') return found;
      if (found === 'opened') attempt--;
      else this.refresh();
    }
    return undefined;
  }

  /**
   * The file of a chunk, if it is visible, in a file, and what its digest says. It is open until many others have been
   * asked for.
   */
  chunkFile(digest: Uint8Array): ChunkFile | undefined {
    this.#env.useListener?.used(digest);
    const key = latin1(digest);
    const open = this.#open.get(key);
    if (open) return open;
    const row = this.#visibleRow(digest);
    if (row?.kind !== 'file') return undefined;
    return this.#openFile(key, digest, row, undefined) === 'opened' ? this.#open.get(key) : undefined;
  }

  #visibleRow(digest: Uint8Array): ChunkRow | undefined {
    const bytes = this.#env.chunks.view(digest);
    return bytes && parseChunkRow(bytes, digest);
  }

  /**
   * Has a chunk hashed before it is read: whoever reads a large blob in order says so of the next ones. False when that
   * should be said again later.
   */
  expect(digest: Uint8Array): boolean {
    if (!this.#ahead || this.#sound.has(digest)) return true;
    const row = this.#visibleRow(digest);
    if (row?.kind !== 'file') return true;
    const path = this.#files.path(toHex(digest), row.suffix);
    return this.#ahead.expect(latin1(digest), { path, size: row.size, digest });
  }

  /** Opens the file of a chunk. If it is to be hashed, that is done in `whole`, which then holds it: gives its size. */
  #openFile(
    key: string,
    digest: Uint8Array,
    { size, suffix }: ChunkRow & { kind: 'file' },
    whole: Uint8Array | undefined,
  ): number | 'opened' | 'gone' {
    const path = this.#files.path(toHex(digest), suffix);
    if (this.#rotten.has(path)) return 'gone';
    let fd: number;
    try {
      fd = openSync(path, 'r');
    } catch (error) {
      if (isAbsence(error)) return 'gone';
      throw error;
    }
    if (this.#ahead?.isSound(key)) this.#sound.add(digest);
    if (this.#checks && !this.#sound.has(digest)) {
      const bytes = whole ?? this.#emptied(size);
      if (!readsWhole(fd, bytes) || !this.#isSound(digest, bytes)) {
        closeSync(fd);
        if (this.#rotten.size < MAX_ROTTEN) this.#rotten.add(path);
        return 'gone';
      }
      if (whole) {
        closeSync(fd);
        return size;
      }
      this.#hashed = { key, bytes };
    }
    this.#open.set(key, { fd, size });
    return 'opened';
  }

  /** The memory for a chunk of which only a part is wanted, until the next one. */
  #emptied(size: number): Uint8Array {
    this.#hashed = NOTHING_HASHED;
    if (this.#buffer.length < size) this.#buffer = Buffer.allocUnsafeSlow(size);
    return this.#buffer.subarray(0, size);
  }

  /** Whether bytes are what a digest says, or have been. */
  #isSound(digest: Uint8Array, bytes: Uint8Array): boolean {
    if (!this.#checks || this.#sound.has(digest)) return true;
    if (!isDigestOf(digest, bytes)) return false;
    this.#sound.add(digest);
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
