import { LRUCache } from 'lru-cache';
import type { DirectoryIndex } from '../castore/directory.ts';
import { Directory } from '../castore/directory.ts';
import { LARGE_DIRECTORY } from '../castore/large-directory.ts';
import { latin1 } from '../util/bytes.ts';

/** Encoded bytes of the parsed directories that a thread keeps: small ones, and large ones, which threads share. */
const SMALL_BYTES = 4 << 20;
const LARGE_BYTES = 256 << 20;
/** Large directories that are remembered as such. */
const MAX_KNOWN = 1000;

/** The directories that a thread has parsed. Keys are digests with one character a byte. */
export class DirectoryCache {
  readonly #small = new LRUCache<string, Directory>({
    maxSize: SMALL_BYTES,
    sizeCalculation: ({ bytes }) => bytes.length + 64,
  });
  /** One that is larger than all of the room has it for itself. */
  readonly #large = new LRUCache<string, Directory>({
    maxSize: LARGE_BYTES,
    sizeCalculation: ({ bytes }) => Math.min(bytes.length, LARGE_BYTES),
  });
  /** Those whose encoding need not be read to know that they are large. */
  readonly #known = new LRUCache<string, true>({ max: MAX_KNOWN });

  get(key: string): Directory | undefined {
    return this.#small.get(key) ?? this.#large.get(key);
  }

  /** Whether a directory must be decoded elsewhere. */
  isLarge(key: string): boolean {
    return this.#known.has(key);
  }

  /** Parses a directory and keeps it; `undefined` for a large one. Throws INVALID_ARGUMENT for what is none. */
  add(key: string, bytes: Uint8Array): Directory | undefined {
    if (bytes.length >= LARGE_DIRECTORY) {
      this.#known.set(key, true);
      return undefined;
    }
    const directory = Directory.decode(bytes);
    this.#small.set(key, directory);
    return directory;
  }

  /** Keeps a large directory that has been decoded. */
  addIndexed(digest: Uint8Array, index: DirectoryIndex): void {
    this.#large.set(latin1(digest), Directory.indexed(index));
  }
}
