import type { Chunk } from '../castore/blob/service.ts';
import type { ChunkFile } from '../castore/local/reader.ts';
import { latin1 } from '../util/bytes.ts';
import { PassingSource } from './passing-source.ts';
import type { Source } from './source.ts';

/** Shortest time between two reports of what was read, in milliseconds. */
const INTERVAL_MS = 60_000;

/** Reads from another source, and tells now and then which directories, chunk lists and chunks were read. */
export class NotingSource extends PassingSource {
  readonly #tell: (digests: readonly string[]) => void;
  readonly #read = new Set<string>();
  #next = performance.now() + INTERVAL_MS;

  /** `tell` is given digests with one character a byte. */
  constructor(source: Source, tell: (digests: readonly string[]) => void) {
    super(source);
    this.#tell = tell;
  }

  #note<T>(digest: Uint8Array, found: T): T {
    if (found === undefined) return found;
    this.#read.add(latin1(digest));
    const now = performance.now();
    if (now >= this.#next) {
      this.#tell([...this.#read]);
      this.#read.clear();
      this.#next = now + INTERVAL_MS;
    }
    return found;
  }

  override directory(digest: Uint8Array): Uint8Array | undefined {
    return this.#note(digest, super.directory(digest));
  }

  override manifest(digest: Uint8Array): readonly Chunk[] | undefined {
    return this.#note(digest, super.manifest(digest));
  }

  override readChunk(...part: Parameters<Source['readChunk']>): number | undefined {
    return this.#note(part[0], super.readChunk(...part));
  }

  override chunkFile(digest: Uint8Array): ChunkFile | undefined {
    return this.#note(digest, super.chunkFile(digest));
  }
}
