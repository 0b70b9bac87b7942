import type { Chunk } from '../castore/blob/service.ts';
import type { PathInfo } from '../store/path-info/path-info.ts';
import { latin1 } from '../util/bytes.ts';
import type { Source } from './source.ts';

/** Shortest time between two reports of what was read, in milliseconds. */
const INTERVAL_MS = 60_000;

/** Reads from another source, and tells now and then which directories, chunk lists and chunks were read. */
export class NotingSource implements Source {
  readonly #source: Source;
  readonly #tell: (digests: readonly string[]) => void;
  readonly #read = new Set<string>();
  #next = performance.now() + INTERVAL_MS;

  /** `tell` is given digests with one character a byte. */
  constructor(source: Source, tell: (digests: readonly string[]) => void) {
    this.#source = source;
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

  pathInfo(hash: Uint8Array): PathInfo | undefined {
    return this.#source.pathInfo(hash);
  }

  pathInfosFrom(from: Uint8Array): Iterable<PathInfo> {
    return this.#source.pathInfosFrom(from);
  }

  directory(digest: Uint8Array): Uint8Array | undefined {
    return this.#note(digest, this.#source.directory(digest));
  }

  manifest(digest: Uint8Array): readonly Chunk[] | undefined {
    return this.#note(digest, this.#source.manifest(digest));
  }

  readChunk(
    digest: Uint8Array,
    offset: number,
    length: number,
    out: Uint8Array,
    at: number,
    fresh?: Uint8Array,
  ): number | undefined {
    return this.#note(digest, this.#source.readChunk(digest, offset, length, out, at, fresh));
  }

  refresh(): void {
    this.#source.refresh();
  }
}
