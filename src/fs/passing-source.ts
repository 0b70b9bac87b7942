import type { Chunk } from '../castore/blob/service.ts';
import type { ChunkFile } from '../castore/local/reader.ts';
import type { PathInfo } from '../store/path-info/path-info.ts';
import type { Source } from './source.ts';

/** Gives what another source has, for sources that look at some of it. */
export class PassingSource implements Source {
  readonly #source: Source;

  constructor(source: Source) {
    this.#source = source;
  }

  pathInfo(hash: Uint8Array): PathInfo | undefined {
    return this.#source.pathInfo(hash);
  }

  pathInfosFrom(from: Uint8Array): Iterable<PathInfo> {
    return this.#source.pathInfosFrom(from);
  }

  directory(digest: Uint8Array): Uint8Array | undefined {
    return this.#source.directory(digest);
  }

  manifest(digest: Uint8Array): readonly Chunk[] | undefined {
    return this.#source.manifest(digest);
  }

  readChunk(...part: Parameters<Source['readChunk']>): number | undefined {
    return this.#source.readChunk(...part);
  }

  chunkFile(digest: Uint8Array): ChunkFile | undefined {
    return this.#source.chunkFile(digest);
  }

  expect(digest: Uint8Array): boolean {
    return this.#source.expect(digest);
  }

  refresh(): void {
    this.#source.refresh();
  }
}
