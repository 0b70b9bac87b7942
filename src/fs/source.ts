import type { Chunk } from '../castore/blob/service.ts';
import type { Environment } from '../castore/local/environment.ts';
import type { ChunkFile } from '../castore/local/reader.ts';
import { LocalReader } from '../castore/local/reader.ts';
import { PathInfoTable } from '../store/path-info/local.ts';
import type { PathInfo } from '../store/path-info/path-info.ts';

/** A store that is read without waiting. Everything may be `undefined`: not here (yet). */
export interface Source {
  pathInfo(hash: Uint8Array): PathInfo | undefined;
  /** Path infos whose hash begins with at least `from` (bytes), in the order of the hashes. */
  pathInfosFrom(from: Uint8Array): Iterable<PathInfo>;
  /** The encoding of a directory. */
  directory(digest: Uint8Array): Uint8Array | undefined;
  /** The chunk list of a blob of several chunks. */
  manifest(digest: Uint8Array): readonly Chunk[] | undefined;
  /** Copies part of a chunk into `out` at `at`; gives the number of bytes. `fresh` as for a LocalReader. */
  readChunk(
    digest: Uint8Array,
    offset: number,
    length: number,
    out: Uint8Array,
    at: number,
    fresh?: Uint8Array,
  ): number | undefined;
  /** The file of a chunk, open until the next calls, if it is in one and is what its digest says. */
  chunkFile(digest: Uint8Array): ChunkFile | undefined;
  /** Makes ready a chunk that will be read soon. False when that should be said again later. */
  expect(digest: Uint8Array): boolean;
  refresh(): void;
}

/** Reads from a local store, path infos included. */
export class LocalSource extends LocalReader implements Source {
  readonly #infos: PathInfoTable;

  constructor(env: Environment, options: ConstructorParameters<typeof LocalReader>[1] = {}) {
    super(env, options);
    this.#infos = new PathInfoTable(env);
  }

  pathInfo(hash: Uint8Array): PathInfo | undefined {
    return this.#infos.get(hash);
  }

  pathInfosFrom(from: Uint8Array): Iterable<PathInfo> {
    return this.#infos.list(from);
  }
}
