import { existsSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { toHex } from '../../util/bytes.ts';
import { unlinkIfThere } from '../../util/system/file-lock.ts';
import { Ownership } from '../../util/system/ownership.ts';
import type { Digest } from '../digest.ts';

/** Marks that are kept in memory where they cannot be written. */
const MAX_NOTED = 10_000;
/** How often to look whether there are any, in milliseconds. */
const LOOK_MS = 200;

/**
 * Chunks whose file was found to hold something else than their digest says, and blobs whose chunks make another one: nobody
 * who writes relies on them, and fsck tells what they belong to. A mark is a file `rotten/<digest in hex>`: it takes no lock. It goes when the chunk is
 * written anew, or deleted.
 */
export class RottenChunks {
  readonly #dir: string;
  /** What is marked here counts also when the mark cannot be written. */
  readonly #noted = new Set<string>();
  #found = false;
  #until = 0;
  /** Hears of each chunk that is marked here, once. */
  onNoted: ((digest: Digest) => void) | undefined;
  /** How many were marked here. */
  found = 0;

  constructor(storeDir: string) {
    this.#dir = join(storeDir, 'rotten');
  }

  /** Whether there are any. */
  get areThere(): boolean {
    return this.#noted.size > 0 || this.#hasMarks();
  }

  has(digest: Uint8Array): boolean {
    if (!this.areThere) return false;
    const hex = toHex(digest);
    return this.#noted.has(hex) || existsSync(join(this.#dir, hex));
  }

  /** Marks of others are seen a moment later: this is asked for every chunk of an upload. */
  #hasMarks(): boolean {
    const now = performance.now();
    if (now > this.#until) {
      this.#until = now + LOOK_MS;
      this.#found = existsSync(this.#dir);
    }
    return this.#found;
  }

  note(digest: Digest): void {
    const { hex } = digest;
    if (!this.#noted.has(hex)) {
      this.found++;
      this.onNoted?.(digest);
    }
    if (this.#noted.size < MAX_NOTED) this.#noted.add(hex);
    try {
      const owner = new Ownership(dirname(this.#dir));
      owner.makeDirectory(this.#dir);
      const path = join(this.#dir, hex);
      writeFileSync(path, '');
      owner.give(path);
    } catch {
      // A store that can only be read, or a full disk: whoever reads the chunk notices again.
    }
  }

  forget(digest: Uint8Array): void {
    const hex = toHex(digest);
    this.#noted.delete(hex);
    if (existsSync(this.#dir)) unlinkIfThere(join(this.#dir, hex));
  }
}
